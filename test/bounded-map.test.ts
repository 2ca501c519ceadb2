import t from 'tap'
import { BoundedMap } from '../lib/async/bounded-map.js'

t.test('a full map forgets its oldest entry, and an entry that is set again is the newest', async (t) => {
  const map = new BoundedMap<string, number>(2)
  map.set('a', 1).set('b', 2).set('a', 3).set('c', 4)
  t.strictSame([...map], [['a', 3], ['c', 4]])
})
