import { readFileSync } from 'node:fs'
import t from 'tap'
import { apiReport, REPORT } from './api-report.js'

t.test('The public types are those of docs/api.txt, so that a change of them is seen in review', async (t) => {
  t.equal(apiReport(), readFileSync(REPORT, 'utf8'), 'after an intended change, run npm run api')
})
