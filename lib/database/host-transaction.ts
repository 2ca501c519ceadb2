import { wrongArgument } from '../wire/host-arguments.js'
import type { Executor } from './dialect.js'

/**
 * A transaction of the host's own, as `db.transaction().execute(async (transaction) => …)` gives it. Described by what is
 * needed of it, so that a host may use another version of Kysely than the suite.
 */
export interface HostTransaction {
  readonly isTransaction: true
  getExecutor (): object
  executeQuery (query: never): Promise<{ readonly rows: unknown[] }>
}

/** Throws `RT_INVALID_DATA` where the host gave something else. */
export function executorOf (transaction: HostTransaction): Executor {
  const given: { isTransaction?: unknown, executeQuery?: unknown } | null = transaction
  if (given?.isTransaction !== true || typeof given.executeQuery !== 'function') {
    throw wrongArgument('transaction', 'is not a transaction: give what db.transaction().execute(async (transaction) => …) gave')
  }
  return transaction as unknown as Executor
}
