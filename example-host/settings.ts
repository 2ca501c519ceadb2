import { randomBytes } from 'node:crypto'
import type { IdKind } from '../plugins/index.js'

const pluginNames = ['connections', 'presence', 'typing', 'channels', 'conversations', 'stats'] as const
export type PluginName = typeof pluginNames[number]

/** Characters of a secret that cannot be guessed. */
const MIN_SECRET = 32

/** The settings from the environment. The defaults suit a first try: one process, one file. */
export interface Settings {
  port: number
  host: string
  allowedOrigins: string[]
  database: string
  ids: IdKind
  redis: string | undefined
  backplaneSecrets: string[]
  jwtSecret: string
  framesPerSecond: number
  messagesPerMinute: number
  recipientsPerMinute: number
  connectRate: number
  maxPerAddress: number
  maxPendingPerAddress: number
  limitPrivateAddresses: boolean
  failedAuthPerMinute: number
  audit: 'all' | 'durable'
  presenceEveryone: number | 'always' | 'never'
  logLevel: string
  plugins: PluginName[]
  metrics: string | undefined
  nodeName: string | undefined
  production: boolean
}

/** Reads the environment. Throws an error with the variable's name for an invalid value. */
export function readSettings (env: NodeJS.ProcessEnv): Settings {
  const production = env.NODE_ENV === 'production'
  if (production && !env.JWT_SECRET) throw new Error('JWT_SECRET is required in production')
  if (production && (env.JWT_SECRET ?? '').length < MIN_SECRET) throw new Error(`JWT_SECRET must have at least ${MIN_SECRET} characters in production`)
  return {
    port: number(env, 'SOCKET_PORT', 3000),
    host: env.HOST ?? '127.0.0.1',
    allowedOrigins: list(env.SOCKET_ALLOWED_ORIGINS),
    database: env.DATABASE_URL ?? 'sqlite:./data/realtime.db',
    ids: oneOf<IdKind>('IDS', env.IDS || 'integer', ['integer', 'string']),
    redis: redisUrl(env),
    backplaneSecrets: list(env.BACKPLANE_SECRET),
    jwtSecret: env.JWT_SECRET ?? randomBytes(32).toString('hex'),
    framesPerSecond: number(env, 'FRAMES_PER_SECOND', 50),
    messagesPerMinute: number(env, 'MESSAGES_PER_MINUTE', 3000),
    recipientsPerMinute: number(env, 'RECIPIENTS_PER_MINUTE', 10_000),
    connectRate: number(env, 'CONNECT_RATE', 0),
    maxPerAddress: number(env, 'MAX_PER_ADDRESS', 1000),
    maxPendingPerAddress: number(env, 'MAX_PENDING_PER_ADDRESS', 200),
    limitPrivateAddresses: flag(env, 'LIMIT_PRIVATE_ADDRESSES'),
    failedAuthPerMinute: number(env, 'FAILED_AUTH_PER_MINUTE', 60),
    audit: oneOf('AUDIT', env.AUDIT || 'all', ['all', 'durable']),
    presenceEveryone: env.PRESENCE_EVERYONE === 'always' || env.PRESENCE_EVERYONE === 'never' ? env.PRESENCE_EVERYONE : number(env, 'PRESENCE_EVERYONE', 1000),
    logLevel: env.LOG_LEVEL ?? 'info',
    plugins: plugins(env.SUITE),
    // In production they are for a scraper, at a path that the proxy keeps to itself.
    metrics: env.METRICS_PATH ?? (production ? undefined : '/metrics'),
    nodeName: env.NODE_NAME,
    production
  }
}

function number (env: NodeJS.ProcessEnv, name: string, fallback: number): number {
  const value = Number(env[name] ?? fallback)
  if (!Number.isInteger(value) || value < 0) throw new Error(`${name} must be a whole number, not ${env[name]}`)
  return value
}

const list = (text: string | undefined): string[] => (text ?? '').split(',').map((part) => part.trim()).filter((part) => part !== '')

function oneOf<Value extends string> (name: string, text: string, values: readonly Value[]): Value {
  const known = values.find((value) => value === text)
  if (known === undefined) throw new Error(`${name} must be ${values.join(' or ')}, not ${text}`)
  return known
}

const flag = (env: NodeJS.ProcessEnv, name: string): boolean => oneOf(name, env[name] || 'false', ['true', 'false']) === 'true'

function redisUrl (env: NodeJS.ProcessEnv): string | undefined {
  if (env.REDIS_URL) return env.REDIS_URL
  if (!env.REDIS_HOST) return undefined
  // Some .env files have `null` for no password.
  const password = env.REDIS_PASSWORD && env.REDIS_PASSWORD !== 'null' ? `:${encodeURIComponent(env.REDIS_PASSWORD)}@` : ''
  return `redis://${password}${env.REDIS_HOST}:${number(env, 'REDIS_PORT', 6379)}/${number(env, 'REDIS_DB', 0)}`
}

function plugins (text: string | undefined): PluginName[] {
  if (text === undefined || text === '' || text === 'all') return [...pluginNames]
  return list(text).map((name) => {
    const known = pluginNames.find((plugin) => plugin === name)
    if (known === undefined) throw new Error(`SUITE knows ${pluginNames.join(', ')}, not ${name}`)
    return known
  })
}
