// The state of the page: people, conversations and their messages. It touches neither the page nor the network.
import { hasIntegerIds, readId } from '/dom.js'

/** The sender of the host's own messages. */
const HOST = hasIntegerIds ? 0 : ''
/** Milliseconds for which changes are collected before they are shown. */
const TOGETHER = 20

/** The groups that everyone sees. */
export const ROOMS = ['group.lobby', 'group.coffee']

export const roomName = (channel) => `#${channel.slice('group.'.length)}`

export function createState (me) {
  const names = new Map([[me.userId, me.name], [HOST, 'The host']])
  const talks = new Map() // key → conversation
  const listeners = new Set()
  const nameless = new Set()
  let timer = null

  const state = {
    me,
    names,
    talks,
    /** User id → `{ status, text }`. */
    people: new Map(),
    /** Ids of messages that a device of the recipient has confirmed. */
    delivered: new Set(),
    /** The key of the conversation that is open. */
    current: ROOMS[0],
    /** Called with the ids of users whose names are not known yet. */
    onNameless: () => {},

    onChange: (listener) => { listeners.add(listener) },
    changed () { timer ??= setTimeout(state.show, TOGETHER) },
    /** Shows all changes at once. */
    show () {
      clearTimeout(timer)
      timer = null
      for (const listener of listeners) listener()
      if (nameless.size > 0) state.onNameless([...nameless])
      nameless.clear()
    },

    nameOf (id) {
      if (!names.has(id)) {
        nameless.add(id)
        state.changed()
      }
      return names.get(id) ?? `User ${id}`
    },
    titleOf: (talk) => talk.peer === null ? roomName(talk.channel) : state.nameOf(talk.peer),
    statusOf: (id) => state.people.get(id)?.status ?? 'offline',

    /** The conversation in a channel (`group.lobby`), or with a user (`with:7`). */
    talk (key) {
      if (!talks.has(key)) talks.set(key, newTalk(key))
      return talks.get(key)
    },
    /** The conversation to which a frame belongs: it names a channel, or the two users. */
    talkOf ({ channel, with: peer, senderId, recipientId }) {
      return state.talk(channel ?? `with:${peer ?? (senderId === me.userId ? recipientId : senderId)}`)
    },
    open: () => state.talk(state.current),

    /** A message from the server. False if it was known. */
    add (talk, message) {
      if (talk.messages.has(message.id)) return false
      talk.messages.set(message.id, message)
      talk.isListed = true
      if (message.id >= (talk.last?.id ?? 0)) talk.last = message
      if (message.by === me.userId) talk.readUpTo = Math.max(talk.readUpTo, message.id)
      // A user who writes has read all earlier messages.
      else if (message.id > (talk.readers.get(message.by) ?? 0)) talk.readers.set(message.by, message.id)
      return true
    },
    /** A message that waited is stored. */
    stored (talk, message, id, at) {
      talk.waiting = talk.waiting.filter((one) => one !== message)
      state.add(talk, Object.assign(message, { id, at, state: undefined }))
    },
    /** An edit or a delete. */
    change (talk, id, change) {
      for (const message of [talk.messages.get(id), talk.last]) if (message?.id === id) Object.assign(message, change)
    },
    read (talk, userId, upTo) {
      if (userId === me.userId) {
        talk.readUpTo = Math.max(talk.readUpTo, upTo)
        talk.unread = [...talk.messages.values()].filter(({ id, by }) => by !== me.userId && id > talk.readUpTo).length
      } else talk.readers.set(userId, Math.max(talk.readers.get(userId) ?? 0, upTo))
    },
    unread: () => [...talks.values()].reduce((sum, { unread }) => sum + unread, 0)
  }
  return state
}

function newTalk (key) {
  const peer = key.startsWith('with:') ? readId(key.slice('with:'.length)) : null
  return {
    key,
    peer,
    channel: peer === null ? key : null,
    /** As the client's methods name it. */
    where: peer === null ? { channel: key } : { with: peer },
    messages: new Map(), // id → { id, by, text, at, editedAt, isDeleted }
    waiting: [], // own messages that are not stored: { by, text, dedupeId, state: 'waiting' | 'failed', problem }
    typing: new Set(),
    readers: new Map(), // user id → the id up to which they have read
    unread: 0,
    readUpTo: 0,
    last: null,
    draft: '',
    isListed: false,
    isLoaded: false,
    hasOlder: true,
    members: null, // of a channel: { ids, count, version }
  }
}

/** A message frame as the page keeps it. */
export const toMessage = ({ messageId, userId, senderId, message = '', timestamp, editedAt, deleted = false }) =>
  ({ id: messageId, by: userId ?? senderId, text: message, at: timestamp, editedAt, isDeleted: deleted })
