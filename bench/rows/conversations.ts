import { CompiledQuery } from 'kysely'
import { directConversation } from '../../lib/conversation-keys.js'
import { migrate } from '../../lib/database/migrator.js'
import { openDatabase } from '../../lib/database/open.js'
import { Ids } from '../../lib/ids.js'
import type { StorageAccess } from '../../lib/resources.js'
import { ConversationStore } from '../../plugins/conversations/store.js'

/** Messages in the log, and conversations of the user who asks. */
const ROWS = 1_000_000
const CONVERSATIONS = 500
/** How often each is measured. */
const ROUNDS = 200
const PAGE = 50
const TENANT = 1
const ME = 1
/** Wrote 1000 messages before everybody else. */
const SILENT = 900_000

const ids = new Ids('integer')

/** Milliseconds of MariaDB for a page of history, for one with a peer who has been silent, and for a page of the list. */
export async function conversations (url: string): Promise<{ history: number, silent: number, list: number }> {
  const database = openDatabase(url)
  const { db, dialect } = database
  try {
    await migrate(db)
    await fill(async (text, values) => { await db.executeQuery(CompiledQuery.raw(text, values)) })
    const store = new ConversationStore({ db, slow: db, dialect, behind: [], ask: async (statement) => await statement() } satisfies StorageAccess, ids)
    const page = (peer: number, before?: number) => async (): Promise<void> => {
      const { messages: found } = await store.history({ tenantId: TENANT, conversation: directConversation(ids, ME, peer), before, limit: PAGE + 1, label: undefined })
      if (found.length !== PAGE + 1) throw new Error(`a page of ${found.length}`)
    }
    const list = async (): Promise<void> => {
      const entries = (await store.list(TENANT, ME, null, PAGE + 1)).slice(0, PAGE)
      const counts = await Promise.all([store.messages(entries.map(({ lastId }) => lastId)), store.unread(TENANT, ME, entries)])
      if (counts[1].filter(({ unread }) => unread > 0).length < PAGE / 2) throw new Error('too few have unread messages')
    }
    return { history: await median(page(2, ROWS)), silent: await median(page(SILENT)), list: await median(list) }
  } finally {
    await database.close()
  }
}

async function median (task: () => Promise<void>): Promise<number> {
  const took: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    const began = performance.now()
    await task()
    took.push(performance.now() - began)
  }
  return took.sort((a, b) => a - b)[ROUNDS >> 1] ?? NaN
}

/** Half of the conversations are read; the others have more unread messages than are counted. */
async function fill (run: (text: string, values: unknown[]) => Promise<void>): Promise<void> {
  const columns = 'tenant_id, user_id, event_type, channel, payload, status, created_at, updated_at, origin, handed_at, conversation, retention_days'
  const at = '2026-01-01 00:00:00.000'
  const payload = `{"senderId":2,"recipientId":1,"message":"${'x'.repeat(100)}","conversationId":"c","timestamp":"2026-01-01T00:00:00.000Z"}`
  const insert = async (count: number, sender: string): Promise<void> => {
    await run(`insert into websocket_events (${columns})
      select ${TENANT}, ${sender}, 'message:direct', 'private-user.${ME}', ?, 'delivered', ?, ?, 'bench', ?, concat('${ME}/', ${sender}), 0 from seq_1_to_${count}`, [payload, at, at, at])
  }
  await insert(1000, String(SILENT))
  for (let done = 1000; done < ROWS; done += 50_000) await insert(Math.min(50_000, ROWS - done), `2 + seq % ${CONVERSATIONS - 1}`)
  await run(`insert into websocket_conversations (tenant_id, user_id, conversation, read_up_to, is_listed, created_at, updated_at)
    select ${TENANT}, ${ME}, concat('${ME}/', if(seq = ${CONVERSATIONS}, ${SILENT}, seq + 1)), if(seq % 2 = 0, ${2 * ROWS}, 0), 1, ?, ? from seq_1_to_${CONVERSATIONS}`, [at, at])
}
