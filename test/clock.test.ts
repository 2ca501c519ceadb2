import t from 'tap'
import { timeFormat } from '../lib/clock.js'

/** Within a second, at its borders, before 1970, past the year 9999, with a fraction, and the same again. */
const TIMES = [0, 1, 9, 10, 99, 100, 999, 1000, 1001, 999, -1, -1000, -1001, 1_795_000_000_040, 1_795_000_000_040, 1_795_000_000_041.7,
  1_795_000_059_999, 1_795_000_060_000, 4_000_000_000_000, 253_402_300_800_000, 8_640_000_000_000_000]

t.test('the text of a time is that of toISOString, whatever was formatted before', async (t) => {
  const [wire, table] = [timeFormat('T', 'Z'), timeFormat(' ', '')]
  for (const time of [...TIMES, ...TIMES.toReversed()]) {
    const expected = new Date(time).toISOString()
    t.equal(wire(time), expected)
    t.equal(table(time), expected.replace('T', ' ').slice(0, -1))
  }
  for (const none of [NaN, Infinity]) t.throws(() => wire(none), { message: 'Invalid time value' })
  t.equal(wire(0), '1970-01-01T00:00:00.000Z')
})
