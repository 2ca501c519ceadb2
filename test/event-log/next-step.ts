import type { Test } from 'tap'
import { nextStep, type NextStep } from '../../lib/event-log/next-step.js'

export function nextSteps (t: Test): void {
  t.test('an event is published first, sent again until its recipient confirms it, and given up after five attempts', async (t) => {
    const table: Array<{ isPublished: boolean, retryCount: number, isOnline: boolean, requiresConfirmation: boolean, step: NextStep, age?: number }> = [
      { isPublished: false, retryCount: 0, isOnline: true, requiresConfirmation: true, step: 'publish' },
      { isPublished: false, retryCount: 0, isOnline: false, requiresConfirmation: true, step: 'publish' },
      { isPublished: false, retryCount: 5, isOnline: true, requiresConfirmation: true, step: 'publish' },
      { isPublished: false, retryCount: 0, isOnline: false, requiresConfirmation: false, step: 'publish' },
      { isPublished: true, retryCount: 0, isOnline: true, requiresConfirmation: true, step: 'retry' },
      { isPublished: true, retryCount: 4, isOnline: true, requiresConfirmation: true, step: 'retry' },
      { isPublished: true, retryCount: 5, isOnline: true, requiresConfirmation: true, step: 'fail' },
      { isPublished: true, retryCount: 0, isOnline: false, requiresConfirmation: true, step: 'wait' },
      { isPublished: true, retryCount: 5, isOnline: false, requiresConfirmation: true, step: 'wait' },
      { isPublished: true, retryCount: 0, isOnline: true, requiresConfirmation: false, step: 'none' },
      { isPublished: true, retryCount: 0, isOnline: true, requiresConfirmation: true, step: 'early', age: 4999 },
      { isPublished: true, retryCount: 1, isOnline: true, requiresConfirmation: true, step: 'expire', age: 8 * 24 * 3600_000 },
      { isPublished: true, retryCount: 0, isOnline: false, requiresConfirmation: true, step: 'expire', age: 8 * 24 * 3600_000 },
      { isPublished: false, retryCount: 0, isOnline: false, requiresConfirmation: true, step: 'publish', age: 8 * 24 * 3600_000 }
    ]
    for (const { isPublished, retryCount, isOnline, requiresConfirmation, step, age = 60_000 } of table) {
      const publishedAt = isPublished ? 1 : null
      t.equal(nextStep({ publishedAt, retryCount }, { isOnline, requiresConfirmation, age }), step, JSON.stringify({ age, isPublished, retryCount, isOnline, requiresConfirmation }))
    }
  })
}
