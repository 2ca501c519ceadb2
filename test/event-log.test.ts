import t from 'tap'
import { append } from './event-log/append.js'
import { nextSteps } from './event-log/next-step.js'
import { outbox } from './event-log/outbox.js'
import { recover } from './event-log/recover.js'
import { refused } from './event-log/refused.js'
import { statements } from './event-log/statements.js'
import { openStorage, storages } from './event-log/world.js'

nextSteps(t)

for (const storage of storages) {
  t.test(`The log on ${storage.name}, with ${storage.ids} ids`, async (t) => {
    const open = await openStorage(t, storage)
    append(t, open, storage)
    statements(t, open)
    refused(t, open, storage)
    recover(t, open)
    outbox(t, open)
  })
}
