import type { Backplane } from './backplane/contract.js'
import type { LogPosition } from './event-log/contract.js'
import type { Roster } from './roster/contract.js'

/** The question between nodes: what one knows of the log, answered with what the other knows. */
export const POSITION_QUESTION = 'log.position'

/** Asks every other node that lives what it knows of the log. Those that do not answer are left out. */
export function askPeersBy (roster: Roster, backplane: Backplane): (mine: LogPosition) => Promise<unknown[]> {
  return async (mine) => {
    const others = (await roster.aliveNodes()).filter((nodeId) => nodeId !== backplane.nodeId)
    const answers = await Promise.allSettled(others.map(async (nodeId) => await backplane.ask(nodeId, POSITION_QUESTION, mine)))
    return answers.flatMap((answer) => answer.status === 'fulfilled' ? [answer.value] : [])
  }
}
