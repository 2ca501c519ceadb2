import type { Model, ModelNode } from './model.js'

/** What the roster says, in the same words as {@link truth}. */
async function said (model: Model, { roster }: ModelNode, tenantId: number, userIds: number[], conversations: string[]): Promise<Record<string, unknown>> {
  const presences = await roster.presence(tenantId, userIds)
  const { users, total } = await roster.online(tenantId, { limit: 100, after: 0 })
  const connections = await Promise.all(userIds.map(async (userId) => await roster.connectionsOf(tenantId, userId)))
  const typing = await Promise.all(conversations.map(async (id) => await roster.typing(tenantId, id)))
  return {
    statuses: userIds.map((userId, i) => `${userId} ${presences[i]?.status ?? 'gone'}`),
    listed: users.map(({ userId, presence }) => `${userId} ${presence.status}`),
    total,
    counts: await roster.counts(tenantId),
    connections: connections.flat().map(({ nodeId, connectionId, generation }) => `${nodeId} ${connectionId} ${generation}`).toSorted(),
    typing: typing.flatMap((entries, i) => entries.map(({ userId }) => `${tenantId}/${userId}:${conversations[i]}`))
      .filter((key) => !model.ending.includes(key)).toSorted()
  }
}

function truth (model: Model, tenantId: number, userIds: number[]): Record<string, unknown> {
  const { connected } = model
  const here = userIds.filter((userId) => connected.has(`${tenantId}/${userId}`))
  const shown = here.filter((userId) => model.statusOf(`${tenantId}/${userId}`) !== 'offline')
  const sockets = model.sockets.filter((socket) => socket.tenantId === tenantId)
  return {
    statuses: userIds.map((userId) => `${userId} ${here.includes(userId) ? model.statusOf(`${tenantId}/${userId}`) : 'gone'}`),
    listed: shown.map((userId) => `${userId} ${model.statusOf(`${tenantId}/${userId}`)}`),
    total: shown.length,
    counts: { total: sockets.length, active: sockets.length, users: here.length },
    connections: sockets.map(({ nodeId, connectionId, generation }) => `${nodeId} ${connectionId} ${generation}`).toSorted(),
    typing: [...model.typing.keys()].filter((key) => key.startsWith(`${tenantId}/`) && !model.ending.includes(key)).toSorted()
  }
}

/** What the nodes say that is not so, and what was told that should not have been; nothing: all is right. */
export async function findings (model: Model, tenantIds: number[], userIds: number[], conversations: string[]): Promise<string[]> {
  const found: string[] = []
  for (const tenantId of tenantIds) {
    const right = truth(model, tenantId, userIds)
    for (const node of model.nodes) {
      const answers = await said(model, node, tenantId, userIds, conversations)
      for (const [name, answer] of Object.entries(answers)) {
        if (JSON.stringify(answer) === JSON.stringify(right[name])) continue
        found.push(`${node.roster.nodeId} in tenant ${tenantId}: ${name} are ${JSON.stringify(answer)}, right is ${JSON.stringify(right[name])}`)
      }
    }
  }
  return [...found, ...edges(model)]
}

/** Each user's edges take turns and end in what is so. That somebody types may be said twice by nodes that cannot know of each other. */
function edges (model: Model): string[] {
  const { connected, typing, told, ending } = model
  const streams = new Map<string, string[]>()
  for (const line of told) {
    const [subject = '', edge = ''] = line.split(' ')
    streams.set(subject, [...streams.get(subject) ?? [], edge])
  }
  for (const user of connected) if (!streams.has(user)) streams.set(user, [])
  return [...streams].filter(([subject]) => !ending.includes(subject)).flatMap(([subject, all]) => {
    const isTyping = subject.includes(':')
    const [on, off] = isTyping ? ['starts', 'stops'] : ['online', 'offline']
    const stream = isTyping ? all.filter((edge, i) => edge !== all[i - 1]) : all
    const isOn = isTyping ? typing.has(subject) : connected.has(subject)
    const takesTurns = stream.every((edge, i) => edge === (i % 2 === 0 ? on : off))
    return takesTurns && stream.at(-1) === (isOn ? on : stream.length > 0 ? off : undefined)
      ? []
      : [`${subject} is ${isOn ? on : off} and was told ${all.join()}`]
  })
}
