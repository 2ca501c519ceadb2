import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

const TYPES = { allowTypeImports: true }

const KYSELY = {
  ...TYPES,
  regex: '^kysely($|/)',
  message: 'SQL is spoken by lib/database, lib/event-log, lib/upkeep, store.ts files and migrations.'
}
const IOREDIS = {
  ...TYPES,
  regex: '^ioredis($|/)',
  message: 'Redis is spoken by lib/redis; the others import its types.'
}
const FROM_LIB = {
  regex: '(^|/)(plugins|example-host|client)/',
  message: 'Plugins, hosts and the client stand on lib and migrations, never the other way.'
}
const FROM_CLIENT = {
  regex: '^(?!\\./)',
  message: 'The client has no dependencies, not even of types: it is a package of its own.'
}
const FROM_REACT = {
  regex: '^(?!\\./|\\.\\./(index|globals)\\.js$|react$)',
  message: 'The hooks use React and what the client exports.'
}
// `depth` folders up from the file is `plugins` itself, where only the other plugins are.
const fromPlugin = (depth) => ({
  regex: `^(\\.\\./){${depth}}(?!\\.\\./)|(^|/)(plugins|example-host)/`,
  message: 'Plugins do not import each other or the host; they meet in fastify.realtime.'
})
const FROM_HOST = {
  regex: '(^|/)(lib|migrations|test|bench)/|(^|/)plugins/(?!(([^/]+/)?index|schemas)\\.js$)',
  message: 'The example host uses what the plugins export publicly.'
}

// A later entry for the same file replaces the rule, so each names all that it forbids.
const forbid = (files, ...patterns) => ({ files, rules: { 'no-restricted-imports': ['error', { patterns }] } })

/** The rooms of lib/, lowest first. A room imports itself and the rooms before it in this list, types included. */
export const rooms = [
  'async', 'vocabulary', 'wire', 'database', 'redis', 'backplane', 'roster', 'delivery', 'event-log', 'lifecycle', 'access', 'upkeep', 'core', 'plugin-kit', 'testing'
]
/** Two rooms are files of lib/ itself: these, and all others. */
const CORE = ['core', 'frame-router', 'internals', 'parts', 'realtime', 'resources']
const SPEAKS_SQL = ['database', 'event-log', 'upkeep']
const SPEAKS_REDIS = ['redis']

/** How an import names a room, seen from `lib/`. */
const named = (room) => room === 'core' ? `(${CORE.join('|')})\\.js$` : room === 'vocabulary' ? '[^/]+\\.js$' : `${room}/`

/** The restrictions of one room, for its files and those of its subfolders. */
function restrict (room) {
  const later = rooms.slice(rooms.indexOf(room) + 1)
  const patterns = [FROM_LIB, ...SPEAKS_SQL.includes(room) ? [] : [KYSELY], ...SPEAKS_REDIS.includes(room) ? [] : [IOREDIS]]
  const upwards = (prefix) => later.length === 0 ? [] : [{
    regex: `^${prefix}(${later.map(named).join('|')})`,
    message: `lib/${room} imports only ${rooms.slice(0, rooms.indexOf(room)).join(', ') || 'itself'}: see \`rooms\` in eslint.config.js.`
  }]
  if (room === 'vocabulary') return [forbid(['lib/*.ts'], ...patterns, ...upwards('\\./'))]
  if (room === 'core') return [forbid(CORE.map((name) => `lib/${name}.ts`), ...patterns, ...upwards('\\./'))]
  return [
    forbid([`lib/${room}/*.ts`], ...patterns, ...upwards('\\.\\./')),
    // As in the plugins.
    forbid([`lib/${room}/store.ts`], ...patterns.filter((pattern) => pattern !== KYSELY), ...upwards('\\.\\./')),
    forbid([`lib/${room}/*/*.ts`], ...patterns, ...upwards('(\\.\\./){2}'))
  ]
}

export default defineConfig(
  { ignores: ['**/dist/', 'data/', '.tap/', '**/public/', 'bench/peers/', 'test/compatibility/host.mjs'] },
  tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true, allowNullish: true, allowRegExp: true }],
      // A Fastify handler, hook or plugin without a callback has to be async, whether it awaits or not.
      '@typescript-eslint/require-await': 'off',
      // Objects made of closures are taken apart freely; it cannot tell them from methods that use this.
      '@typescript-eslint/unbound-method': 'off',
      // Takes the usual `keyof T & string` for a mistake.
      '@typescript-eslint/no-redundant-type-constituents': 'off',
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error'
    }
  },
  {
    files: ['lib/**', 'plugins/**', 'client/src/**'],
    rules: { 'max-lines': ['error', { max: 250, skipBlankLines: true, skipComments: true }] }
  },
  {
    files: ['lib/**', 'plugins/**'],
    ignores: ['lib/clock.ts'],
    rules: {
      'no-restricted-properties': ['error', {
        object: 'Date', property: 'now', message: 'Times come from a Clock (lib/clock.ts), durations and timeouts from performance.now().'
      }]
    }
  },
  ...rooms.flatMap(restrict),
  forbid(['client/src/**'], FROM_CLIENT),
  forbid(['client/src/react/**'], FROM_REACT),
  forbid(['plugins/*.ts'], KYSELY, IOREDIS),
  forbid(['plugins/*/*'], fromPlugin(1), KYSELY, IOREDIS),
  forbid(['plugins/*/*/*'], fromPlugin(2), KYSELY, IOREDIS),
  forbid(['plugins/*/store.ts'], fromPlugin(1), IOREDIS),
  forbid(['migrations/**'], FROM_LIB, IOREDIS),
  forbid(['example-host/**'], FROM_HOST, KYSELY, IOREDIS),
  {
    files: ['test/**', 'bench/**'],
    rules: {
      // tap waits for its own subtests; responses are read as JSON of any shape.
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafePromises: [{ from: 'package', name: 'PromiseWithSubtest', package: '@tapjs/core' }] }
      ],
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off'
    }
  },
  { files: ['**/*.js'], extends: [tseslint.configs.disableTypeChecked] }
)
