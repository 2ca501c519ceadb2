import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

const PACKAGES = {
  mariadbd: 'mariadb-server',
  'mariadb-install-db': 'mariadb-server',
  'redis-server': 'redis-server',
  'redis-sentinel': 'redis-sentinel',
  chromium: 'chromium'
}
export type Command = keyof typeof PACKAGES
export const COMMANDS = Object.keys(PACKAGES) as Command[]

// One at a time, since apt's own lock does not cover all it does. policy-rc.d keeps the packages from starting daemons of
// their own.
const INSTALL = `
set -e
exec 9> /tmp/fastify-realtime-packages.lock
flock 9
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update || true
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
`

/** The full paths of these commands; their Debian packages are installed first where that is possible. */
export async function locateCommands<Name extends Command> (...names: Name[]): Promise<Record<Name, string>> {
  const missing = names.filter((name) => !locate(name))
  if (missing.length > 0) await install(missing)
  return Object.fromEntries(names.map((name) => [name, locate(name)])) as Record<Name, string>
}

async function install (commands: Command[]): Promise<void> {
  const packages = [...new Set(commands.map((command) => PACKAGES[command]))]
  const script = ['sh', '-c', INSTALL, 'install', ...packages]
  const [file, ...args] = process.getuid?.() === 0 ? script : ['sudo', '-n', ...script]
  try {
    await run(file!, args, { maxBuffer: 64 * 1024 * 1024 })
  } catch (cause) {
    throw new Error(
      'The tests need MariaDB, Redis and Chromium: install the Debian packages mariadb-server, redis-server, redis-sentinel and chromium, ' +
        'or set DATABASE_URL and REDIS_URL to servers that already run, and CHROMIUM_PATH to a browser.',
      { cause }
    )
  }
}

function locate (command: string): string | undefined {
  // An ordinary user's PATH leaves out sbin, where Debian puts mariadbd.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin']
  return folders.map((folder) => join(folder, command)).find(isExecutable)
}

function isExecutable (path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
