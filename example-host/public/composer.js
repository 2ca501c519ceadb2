// The message field: sends, edits, and messages that could not be sent.
import { $ } from '/dom.js'

export function showComposer ({ client, state, toEnd }) {
  const text = $('text')
  const { me } = state
  const outbox = `outbox of ${me.clubId}/${me.userId}`
  let talk = state.open()
  let edited = null // the message that is being edited

  /** The label under which both sides of a conversation type and write. No id holds a colon. */
  const labelOf = ({ channel, peer }) => channel ?? `dm:${[me.userId, peer].sort((a, b) => a < b ? -1 : 1).join(':')}`
  const audienceOf = ({ channel, peer }) => peer === null ? { channel } : { recipientId: peer }

  async function deliver (talk, message) {
    Object.assign(message, { state: 'waiting', problem: undefined })
    state.changed()
    try {
      const { messageId, timestamp } = await client.send(talk.peer === null ? 'message:group' : 'message:direct', {
        ...audienceOf(talk), message: message.text, conversationId: labelOf(talk), dedupeId: message.dedupeId
      })
      state.stored(talk, message, messageId, timestamp)
    } catch (err) {
      Object.assign(message, { state: 'failed', problem: err.message })
    }
    keep()
    state.changed()
  }
  /** Unsent messages survive a reload. They keep their `dedupeId`, so that a message that was stored after all is not stored twice. */
  function keep () {
    const kept = [...state.talks.values()].filter(({ waiting, draft }) => waiting.length > 0 || draft !== '')
      .map(({ key, waiting, draft }) => ({ key, draft, unsent: waiting.map(({ text, dedupeId }) => ({ text, dedupeId })) }))
    sessionStorage.setItem(outbox, JSON.stringify(kept))
  }
  for (const { key, draft = '', unsent = [] } of JSON.parse(sessionStorage.getItem(outbox) ?? '[]')) {
    const waiting = unsent.map((message) => ({ ...message, by: me.userId, state: 'failed', problem: 'the page was left before it was stored' }))
    const talk = state.talk(key)
    Object.assign(talk, { draft, waiting, isListed: talk.isListed || waiting.length > 0 })
  }

  async function change (promise, what) {
    try {
      await promise
    } catch (err) {
      $('problem').textContent = `${what}: ${err.message}`
    }
  }
  const actions = {
    isEdited: (message) => message === edited,
    edit (message) {
      edited = message
      state.changed()
      text.value = message.text
      show()
      text.focus()
    },
    remove (message) {
      const { text } = message
      Object.assign(message, { text: '', isDeleted: true })
      void change(client.delete(message.id).catch((err) => {
        Object.assign(message, { text, isDeleted: false })
        throw err
      }).finally(() => state.changed()), 'Not deleted')
      state.changed()
    },
    again: (message) => void deliver(state.open(), message),
    discard (message) {
      const open = state.open()
      open.waiting = open.waiting.filter((one) => one !== message)
      keep()
      state.changed()
    }
  }

  function submit () {
    const said = text.value.trim()
    if (said === '') return
    $('problem').textContent = ''
    const message = edited
    text.value = ''
    if (message !== null) {
      finish()
      const before = { text: message.text, editedAt: message.editedAt }
      Object.assign(message, { text: said, editedAt: new Date().toISOString() })
      void change(client.edit(message.id, said).catch((err) => {
        Object.assign(message, before)
        throw err
      }).finally(() => state.changed()), 'Not changed')
    } else {
      const written = { by: me.userId, text: said, dedupeId: `${Date.now()}-${Math.random()}`, isDeleted: false }
      talk.waiting.push(written)
      Object.assign(talk, { draft: '', isListed: true })
      keep()
      void deliver(talk, written)
      toEnd()
    }
    state.changed()
    show()
  }
  function finish () {
    edited = null
    text.value = talk.draft
    state.changed()
    show()
  }
  function show () {
    $('editing').hidden = edited === null
    $('send').querySelector('[type=submit]').textContent = edited === null ? 'Send' : 'Save'
    text.style.height = 'auto'
    if (text.scrollHeight > 0) text.style.height = `${text.scrollHeight + 2}px`
  }

  text.addEventListener('input', () => {
    show()
    if (edited !== null) return
    talk.draft = text.value
    keep()
    client.recordTyping(labelOf(talk), text.value.trim() !== '', audienceOf(talk))
  })
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      submit()
    } else if (event.key === 'Escape' && edited !== null) finish()
    else if (event.key === 'ArrowUp' && text.value === '') {
      const own = [...talk.messages.values()].filter(({ by, isDeleted }) => by === me.userId && !isDeleted).sort((a, b) => a.id - b.id).at(-1)
      if (own === undefined) return
      event.preventDefault()
      actions.edit(own)
    }
  })
  $('send').addEventListener('submit', (event) => {
    event.preventDefault()
    submit()
    text.focus()
  })
  $('cancel').addEventListener('click', () => {
    finish()
    text.focus()
  })
  state.onChange(() => {
    if (talk !== state.open()) {
      talk = state.open()
      $('problem').textContent = ''
      finish()
    } else if (edited?.isDeleted) {
      talk.draft = text.value
      $('problem').textContent = 'The message you were editing is deleted.'
      finish()
    }
  })
  finish()
  return actions
}
