import { createConnection, type RowDataPacket } from 'mysql2/promise'

/** Messages that were stored and that no client has confirmed would be sent again during a later measurement. Returns the URL. */
export async function settle (url: string): Promise<string> {
  const connection = await createConnection(url)
  const [tables] = await connection.query<RowDataPacket[]>("show tables like 'websocket_events'")
  if (tables.length > 0) await connection.query("update websocket_events set status = 'delivered', due_at = null where status = 'pending'")
  await connection.end()
  return url
}
