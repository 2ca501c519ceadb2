import { COMMANDS, locateCommands } from './install-packages.js'

/** Installs all that the tests need, while something else is under way. */
await locateCommands(...COMMANDS)
