/** What Node runs for the command-line tool: one file where the suite runs, else the sources. */
export const CLI: readonly string[] = process.env.BUNDLED_CLI === undefined ? ['--import', 'tsx', 'plugins/cli.ts'] : [process.env.BUNDLED_CLI]
