import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

const TYPES = { allowTypeImports: true }

const KYSELY = {
  ...TYPES,
  regex: '^kysely($|/)',
  message: 'SQL is spoken by lib/database, lib/event-log, lib/maintenance, plugins/*/store.ts and migrations.'
}
const IOREDIS = {
  ...TYPES,
  regex: '^ioredis($|/)',
  message: 'Redis is spoken by lib/redis, lib/backplane/redis and lib/roster/redis.'
}
const FROM_LIB = {
  regex: '(^|/)(plugins|example-host|client)/',
  message: 'Plugins, hosts and the client stand on lib and migrations, never the other way.'
}
const FROM_CLIENT = {
  regex: '^(?!\\./)',
  message: 'The client has no dependencies, not even of types: it is a package of its own.'
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

const SQL = ['lib/database/**', 'lib/event-log*', 'lib/event-log/**', 'lib/maintenance*', 'lib/maintenance/**', 'lib/access/store*']
const REDIS = ['lib/redis*', 'lib/redis/**', 'lib/backplane/redis*', 'lib/roster/redis*']

export default defineConfig(
  { ignores: ['**/dist/', 'data/', '.tap/', '**/public/', 'bench/peers/'] },
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
  forbid(['lib/**'], FROM_LIB, KYSELY, IOREDIS),
  forbid(SQL, FROM_LIB, IOREDIS),
  forbid(REDIS, FROM_LIB, KYSELY),
  forbid(['client/src/**'], FROM_CLIENT),
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
