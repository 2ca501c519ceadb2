import { fileURLToPath } from 'node:url'
import { ESLint } from 'eslint'
import t from 'tap'
import tseslint from 'typescript-eslint'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { rooms } = await import(new URL('../eslint.config.js', import.meta.url).href) as { rooms: readonly string[] }

/** The project's own rules, without types: the files that are looked at do not exist. */
const eslint = new ESLint({ cwd: ROOT, overrideConfig: [tseslint.configs.disableTypeChecked] })

async function complaints (filePath: string, specifier: string): Promise<string[]> {
  const [result] = await eslint.lintText(`import { planted } from '${specifier}'\nplanted()\n`, { filePath })
  return (result?.messages ?? []).filter(({ ruleId }) => ruleId === 'no-restricted-imports').map(({ message }) => message)
}

/** Where a room is, seen from lib/. */
const file = (room: string, name: string): string => room === 'core' ? 'internals.ts' : room === 'vocabulary' ? `${name}.ts` : `${room}/${name}.ts`
const specifier = (from: string, to: string): string => {
  const up = '../'.repeat(from.split('/').length - 1)
  return `${up === '' ? './' : up}${to.replace(/\.ts$/, '.js')}`
}

t.test('no room of lib imports a room that comes later', async (t) => {
  for (const [i, room] of rooms.entries()) {
    for (const later of rooms.slice(i + 1)) {
      const from = file(room, 'planted')
      t.match(await complaints(`${ROOT}lib/${from}`, specifier(from, file(later, 'other'))), [/imports only/], `${room} → ${later}`)
      if (from.includes('/')) {
        const deep = `${room}/inner/planted.ts`
        t.match(await complaints(`${ROOT}lib/${deep}`, specifier(deep, file(later, 'other'))), [/imports only/], `${room}/inner → ${later}`)
      }
    }
  }
})

t.test('a room imports itself and the rooms before it', async (t) => {
  for (const [i, room] of rooms.entries()) {
    for (const earlier of rooms.slice(0, i + 1)) {
      const from = file(room, 'planted')
      t.strictSame(await complaints(`${ROOT}lib/${from}`, specifier(from, file(earlier, 'other'))), [], `${room} → ${earlier}`)
    }
  }
})

t.test('lib imports no plugin, and only its redis room imports ioredis', async (t) => {
  for (const room of rooms) {
    const from = file(room, 'planted')
    t.match(await complaints(`${ROOT}lib/${from}`, `../${'../'.repeat(from.split('/').length - 1)}plugins/channels/index.js`), [/never the other way/], room)
    t.equal((await complaints(`${ROOT}lib/${from}`, 'ioredis')).length, room === 'redis' ? 0 : 1, room)
  }
})

t.test('a plugin does not import another one', async (t) => {
  t.match(await complaints(`${ROOT}plugins/typing/planted.ts`, '../presence/presence.js'), [/do not import each other/])
  t.match(await complaints(`${ROOT}plugins/connections/node/planted.ts`, '../../presence/presence.js'), [/do not import each other/])
})
