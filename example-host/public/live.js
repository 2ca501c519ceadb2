// Brings events and responses of the server into the state.
import { roomName, ROOMS, toMessage } from '/state.js'

/** Messages that are older than this, in milliseconds, are no news. */
const RECENT = 60_000
/** Conversations in the list, and pages of people, that are read. */
const LISTED = 50
const PAGES = 4
const WATCHED = 500
/** Milliseconds between two reads of presence while polling, which does not deliver it. */
const EVERY = 5000

/** `news(talk, text)` is called when somebody writes in a conversation, `toast(text)` for everything else that deserves a word. */
export function follow ({ client, state, token, toast, news }) {
  const { me } = state
  const subscribed = new Map() // channel → promise
  const on = (event, listener) => client.on(event, (data) => {
    listener(data)
    state.changed()
  })
  const quietly = (promise) => { promise.catch(() => {}) } // the strip shows what is wrong

  function receive (frame) {
    const talk = state.talkOf(frame)
    const message = toMessage(frame)
    const isNew = state.add(talk, message)
    if (!isNew || message.by === me.userId) return
    talk.unread++
    talk.typing.delete(message.by)
    if (Date.now() - Date.parse(message.at) < RECENT) news(talk, message)
  }
  on('message:group', receive)
  on('message:direct', receive)
  on('message:delivered', ({ messageId }) => state.delivered.add(messageId))
  on('message:edited', (frame) => state.change(state.talkOf(frame), frame.targetId, { text: frame.message, editedAt: frame.editedAt }))
  on('message:deleted', (frame) => state.change(state.talkOf(frame), frame.targetId, { text: '', isDeleted: true }))
  on('conversation:read', (frame) => state.read(state.talkOf(frame), frame.userId, frame.readUpTo))
  // Messages in rooms that this device is not subscribed to.
  on('conversation:activity', () => quietly(readList()))
  on('user:typing', ({ userId, isTyping, conversationId }) => {
    const { typing } = state.talk(conversationId.startsWith('dm:') ? `with:${userId}` : conversationId)
    if (isTyping && userId !== me.userId) typing.add(userId)
    else typing.delete(userId)
  })

  // People
  const setPerson = (id, status, data) => state.people.set(id, { status, text: typeof data?.text === 'string' ? data.text : '' })
  on('user:online', ({ userId }) => { if (state.statusOf(userId) === 'offline') setPerson(userId, 'online') })
  on('user:offline', ({ userId }) => setPerson(userId, 'offline'))
  on('user:presence', ({ userId, status, data }) => setPerson(userId, status, data))
  on('presence:mode', ({ everyone }) => { if (everyone) quietly(readPeople()) })
  on('watched', ({ users }) => { for (const { userId, status, data } of users) setPerson(userId, status, data) })

  let watch = null
  async function readPeople () {
    const online = []
    let next = ''
    for (let page = 0; page < PAGES && next !== null; page++) {
      const { data, next_cursor: cursor } = await client.get(`/online-users?limit=500${next}`)
      online.push(...data)
      next = cursor === null ? null : `&cursor=${encodeURIComponent(cursor)}`
    }
    const own = await client.getPresence(me.userId)
    for (const id of state.people.keys()) setPerson(id, 'offline')
    for (const { user_id: id, name, status, data } of online) {
      setPerson(id, status, data)
      if (name !== null) state.names.set(id, name)
    }
    setPerson(me.userId, own.status, own.data)
    state.changed()
    // If not every change is sent to everyone, the shown users are watched.
    if (client.transport !== 'websocket' || state.people.size === 0) return
    const before = watch
    watch = await client.watch([...state.people.keys()].slice(0, WATCHED))
    before?.stop()
    for (const { userId, status, data } of watch.users) setPerson(userId, status, data)
    state.changed()
  }

  state.onNameless = (ids) => quietly((async () => {
    const asked = ids.slice(0, 100)
    // The name until the response arrives, and for unknown users.
    for (const id of asked) state.names.set(id, `User ${id}`)
    const response = await fetch(`/people?ids=${encodeURIComponent(asked.join())}`, { headers: { authorization: `Bearer ${await token()}` } })
    for (const { userId, name } of (await response.json()).people) state.names.set(userId, name)
    state.changed()
  })())

  // Rooms
  const setMembers = (channel, members, count, version) => {
    for (const { userId, name } of members) if (name !== null) state.names.set(userId, name)
    state.talk(channel).members = { ids: new Set(members.map(({ userId }) => userId)), count, version }
    state.changed()
  }
  async function readMembers (channel) {
    const { data, total, version } = await client.get(`/channels/${encodeURIComponent(channel)}/members?limit=200`)
    setMembers(channel, data.map(({ user_id: userId, name }) => ({ userId, name })), total, version)
  }
  on('subscribed', ({ channel, members, count, version }) => { if (members !== undefined) setMembers(channel, members, count, version) })
  on('channel:members', ({ channel, joined, left, count, version }) => {
    const { members } = state.talk(channel)
    if (joined === undefined || version !== members?.version + 1) return quietly(readMembers(channel))
    const ids = new Set([...members.ids].filter((id) => !left.includes(id)))
    for (const { userId, name } of joined) {
      ids.add(userId)
      if (name !== null) state.names.set(userId, name)
    }
    state.talk(channel).members = { ids, count, version }
  })
  on('unsubscribed', ({ channel, reason }) => {
    subscribed.delete(channel)
    if (reason !== undefined) toast(`You were removed from ${roomName(channel)}`)
  })

  // Conversations
  const join = (channel) => {
    if (!subscribed.has(channel)) {
      state.talk(channel).isListed = true
      state.changed()
      subscribed.set(channel, client.subscribe(channel).catch((err) => {
        subscribed.delete(channel)
        throw err
      }))
    }
    return subscribed.get(channel)
  }
  async function readList () {
    const { data } = await client.conversations({ limit: LISTED })
    for (const { last, unread, read_up_to: readUpTo, name, ...where } of data) {
      const talk = state.talkOf(where)
      talk.isListed = true
      talk.readUpTo = Math.max(talk.readUpTo, readUpTo)
      // Messages that arrived while the list was read are not counted in it.
      talk.unread = unread + [...talk.messages.values()].filter(({ id, by }) => by !== me.userId && id > (last?.data.messageId ?? 0)).length
      if (last !== null && last.data.messageId >= (talk.last?.id ?? 0)) talk.last = talk.messages.get(last.data.messageId) ?? toMessage(last.data)
      if (talk.peer !== null && name !== null) state.names.set(talk.peer, name)
      if (talk.channel?.startsWith('group.')) quietly(join(talk.channel))
    }
    state.changed()
  }
  /** Reads the messages before the known ones, or the newest ones. */
  async function loadOlder (talk) {
    if (talk.isLoading || !talk.hasOlder || client.state !== 'connected') return
    talk.isLoading = true
    try {
      // First the new messages, then the earlier ones: none falls between the two.
      if (talk.channel !== null) await join(talk.channel)
      const before = talk.isLoaded ? Math.min(...talk.messages.keys()) : undefined
      const { data, more, reads = [] } = await client.history({ ...talk.where, ...before === undefined ? {} : { before } })
      // The history includes edits and deletes made meanwhile.
      for (const message of data.map((frame) => toMessage(frame.data))) if (!state.add(talk, message)) state.change(talk, message.id, message)
      for (const { data: { userId, readUpTo } } of reads) if (userId !== me.userId) state.read(talk, userId, readUpTo)
      Object.assign(talk, { isLoaded: true, hasOlder: more })
    } finally {
      talk.isLoading = false
      state.changed()
    }
  }
  on('gap', ({ channel }) => {
    const gone = channel.startsWith('group.') ? [state.talk(channel)] : [...state.talks.values()].filter(({ peer }) => peer !== null)
    for (const talk of gone) {
      talk.messages.clear()
      Object.assign(talk, { isLoaded: false, hasOlder: true })
    }
    quietly(loadOlder(state.open()))
  })

  const refresh = () => {
    quietly(readPeople())
    quietly(readList())
    if (!state.open().isLoaded) quietly(loadOlder(state.open()))
  }
  on('connected', refresh)
  setInterval(() => { if (client.transport === 'polling') quietly(readPeople()) }, EVERY)
  // The strip shows that there is no connection; the token function needs one, too.
  on('error', ({ code, message }) => { if (!['RT_SERVER_UNREACHABLE', 'RT_TOKEN_FAILED'].includes(code)) toast(`${message} (${code})`) })
  on('notification:received', ({ title, body }) => toast(`${title} ${body}`))
  on('broadcast:message', ({ message, senderId }) => toast(`${state.nameOf(senderId)} to everyone: ${message}`, 'broadcast'))
  for (const room of ROOMS) quietly(join(room))
  return { loadOlder: (talk) => quietly(loadOlder(talk)) }
}
