import { withTimeout } from '../async/with-timeout.js'

interface Call {
  op: string
  data: unknown
  /** Milliseconds for each node to respond. */
  timeout: number
  /** Called for each node that fails, or does not respond in time. */
  failed?: (node: string, err: unknown) => void
}

/** Calls an operation on several nodes at once. Resolves to their results by node; nodes that failed are left out. Never rejects. */
export async function callNodes (
  rpc: { call (node: string, op: string, data: unknown): Promise<unknown> }, nodes: Iterable<string>, { op, data, timeout, failed }: Call
): Promise<Map<string, unknown>> {
  const results = new Map<string, unknown>()
  await Promise.all([...nodes].map(async (node) => {
    try {
      results.set(node, await withTimeout(rpc.call(node, op, data), timeout, () => new Error(`the node did not respond within ${timeout} ms`)))
    } catch (err) {
      failed?.(node, err)
    }
  }))
  return results
}
