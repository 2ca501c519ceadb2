import type { ClientError, ClientState, Id, Transport } from '../index.js'
import { globals } from '../globals.js'
import { share, useRealtime, useStore, type Realtime, type Store } from './context.js'

export interface Status {
  state: ClientState
  /** Null while not connected. With `polling`, presence and typing of others are not received. */
  transport: Transport | null
  /** The user; undefined until the server has authenticated the client. */
  userId?: Id | undefined
  /** The last problem; undefined after the next connection. */
  error?: ClientError | undefined
}

const UNKNOWN: Status = { state: 'connecting', transport: null }

export const statusStore = (realtime: Realtime): Store<Status> => share(realtime, 'status', UNKNOWN, (set, on) => {
  const { client } = realtime
  let error: ClientError | undefined
  const update = (): void => {
    const { state, transport, userId } = client
    set({ state, transport, userId, error })
  }
  for (const event of ['disconnected', 'max-reconnect-attempts-reached'] as const) on(event, update)
  on('transport', () => {
    error = undefined
    update()
  })
  on('error', (err) => {
    // As the client does without a listener.
    globals.console?.error(error = err)
    update()
  })
  update()
})

/** The state of the connection, and who the user is. */
export const useStatus = (): Status => useStore(statusStore(useRealtime()))
