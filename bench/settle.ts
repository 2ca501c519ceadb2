import { setTimeout as sleep } from 'node:timers/promises'
import { createConnection, type RowDataPacket } from 'mysql2/promise'

/** Old versions of rows that MariaDB may still have to remove, and how long to wait for that in milliseconds. */
const [MAX_HISTORY, MAX_WAIT] = [100, 60_000]

/** Messages that were stored and that no client has confirmed would be sent again during a later measurement. Returns the URL. */
export async function settle (url: string): Promise<string> {
  const connection = await createConnection(url)
  const [tables] = await connection.query<RowDataPacket[]>("show tables like 'websocket_events'")
  if (tables.length > 0) await connection.query("update websocket_events set status = 'delivered', due_at = null where status = 'pending'")
  // What MariaDB removes of earlier rows would count as time of the next one.
  for (const until = performance.now() + MAX_WAIT; performance.now() < until; await sleep(200)) {
    const [[history]] = await connection.query<RowDataPacket[]>("select count from information_schema.innodb_metrics where name = 'trx_rseg_history_len'")
    if (Number(history?.count) <= MAX_HISTORY) break
  }
  await connection.end()
  return url
}
