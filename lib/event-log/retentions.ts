import { upsert } from '../database/upsert.js'
import type { Database, Dialect } from '../database/dialect.js'

/** The retentions that rows have are noted in websocket_meta, because no index leads to them. */
const PREFIX = 'retention:'
/** Days that fit into the column; more is as good as forever. */
const MAX_DAYS = 65_535

/** The retentions in use, in days, except the default and "forever". */
export async function retentionsIn (db: Database): Promise<number[]> {
  const rows = await db.selectFrom('websocket_meta').select('name').where('name', 'like', `${PREFIX}%`).execute()
  return rows.map(({ name }) => Number(name.slice(PREFIX.length))).filter((days) => days > 0)
}

/** Notes each retention once, when it is first used. */
export class Retentions {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #known = new Set<number>()

  constructor (db: Database, dialect: Dialect) {
    this.#db = db
    this.#dialect = dialect
  }

  /** The value for the column; `null` keeps an event forever, `undefined` for the days of the option `retentionDays`. */
  columnOf (days: number | null | undefined): number | null {
    if (days === undefined) return null
    if (days === null || days > MAX_DAYS) return 0
    if (!this.#known.has(days)) this.#note(days)
    return days
  }

  #note (days: number): void {
    this.#known.add(days)
    upsert(this.#db, this.#dialect, 'websocket_meta', [{ name: PREFIX + days, value: '' }], { keys: ['name'], update: ['value'] })
      .catch(() => { this.#known.delete(days) }) // with the next event
  }
}
