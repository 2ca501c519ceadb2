import { readFileSync } from 'node:fs'
import t from 'tap'
import { apiReport, REPORT } from './api-report.js'

t.test('What a host sees of the package is what docs/api.txt says: a change of it is seen in review', async (t) => {
  t.equal(apiReport(), readFileSync(REPORT, 'utf8'), 'after an intended change, run npm run api')
})
