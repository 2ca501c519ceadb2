import type { Test } from 'tap'
import { nextStep } from '../../lib/event-log/next-step.js'

export function nextSteps (t: Test): void {
  t.test('an event is published first, sent again until its recipient confirms it, and given up after five attempts', async (t) => {
    const table = [
      { isPublished: false, retryCount: 0, isOnline: true, requiresConfirmation: true, step: 'publish' },
      { isPublished: false, retryCount: 0, isOnline: false, requiresConfirmation: true, step: 'publish' },
      { isPublished: false, retryCount: 5, isOnline: true, requiresConfirmation: true, step: 'publish' },
      { isPublished: false, retryCount: 0, isOnline: false, requiresConfirmation: false, step: 'publish' },
      { isPublished: true, retryCount: 0, isOnline: true, requiresConfirmation: true, step: 'retry' },
      { isPublished: true, retryCount: 4, isOnline: true, requiresConfirmation: true, step: 'retry' },
      { isPublished: true, retryCount: 5, isOnline: true, requiresConfirmation: true, step: 'fail' },
      { isPublished: true, retryCount: 0, isOnline: false, requiresConfirmation: true, step: 'wait' },
      { isPublished: true, retryCount: 5, isOnline: false, requiresConfirmation: true, step: 'wait' },
      { isPublished: true, retryCount: 0, isOnline: true, requiresConfirmation: false, step: 'none' }
    ]
    for (const { isPublished, retryCount, isOnline, requiresConfirmation, step } of table) {
      const publishedAt = isPublished ? 1 : null
      t.equal(nextStep({ publishedAt, retryCount }, { isOnline, requiresConfirmation }), step, JSON.stringify({ isPublished, retryCount, isOnline, requiresConfirmation }))
    }
  })
}
