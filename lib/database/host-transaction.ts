import { wrongArgument } from '../wire/host-arguments.js'
import type { Executor } from './dialect.js'

/**
 * A transaction of the host, as passed to `db.transaction().execute(async (transaction) => …)`. A structural type, so that the
 * host may use another version of Kysely.
 */
export interface HostTransaction {
  readonly isTransaction: true
  getExecutor (): object
  executeQuery (query: never): Promise<{ readonly rows: unknown[] }>
}

/** Throws `RT_INVALID_DATA` for any other value. */
export function executorOf (transaction: HostTransaction): Executor {
  const given: { isTransaction?: unknown, executeQuery?: unknown } | null = transaction
  if (given?.isTransaction !== true || typeof given.executeQuery !== 'function') {
    throw wrongArgument('transaction', 'is not a transaction: give what db.transaction().execute(async (transaction) => …) gave')
  }
  return transaction as unknown as Executor
}
