import t from 'tap'
import { MemoryBackplane } from '../lib/backplane/memory.js'
import { keys } from './backplane/keys.js'
import { startNode } from './backplane/node.js'
import { betweenNodes, onOneNode } from './backplane/obligations.js'
import { overFailures, startNodes } from './backplane/redis.js'
import { sequences } from './backplane/sequences.js'

t.test('The backplane of one process', async (t) => {
  onOneNode(t, async (t) => await startNode(t, new MemoryBackplane('node-a')))
})

t.test('The backplane over Redis', async (t) => {
  onOneNode(t, async (t) => (await startNodes(t))[0])
  betweenNodes(t, startNodes)
  overFailures(t)
  keys(t)
})

t.test('The numbers of a channel', async (t) => {
  sequences(t)
})
