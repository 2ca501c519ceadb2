// The demo page. All that people write is shown as text; nothing is ever made into HTML.
import { WebSocketClient } from '/client.js'

const $ = (id) => document.getElementById(id)
const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props)
  element.append(...children)
  return element
}
const time = (iso) => new Date(iso).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })

const GROUPS = ['lobby', 'coffee']
const session = JSON.parse(sessionStorage.getItem('session') ?? 'null')
const form = $('login')
form.elements.userId.value = session?.userId ?? 1 + Math.floor(Math.random() * 9999)
form.elements.name.value = session?.name ?? ''
form.addEventListener('submit', async (event) => {
  event.preventDefault()
  const { name, userId, clubId, admin } = Object.fromEntries(new FormData(form))
  const who = { name, userId: Number(userId), clubId: Number(clubId), ...admin ? { admin: true } : {} }
  sessionStorage.setItem('session', JSON.stringify(who))
  try {
    await login(who)
    enter(who)
  } catch (err) {
    toast(err.message)
  }
})

async function login (who) {
  const response = await fetch('/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(who) })
  if (!response.ok) throw new Error(response.status === 404 ? 'The demo login is off in production.' : 'This login is not accepted.')
  return (await response.json()).token
}

function toast (text) {
  const line = make('p', { textContent: text })
  $('toasts').append(line)
  setTimeout(() => line.remove(), 6000)
}

function enter (who) {
  const names = new Map([[who.userId, who.name]])
  const people = new Map() // user id → status
  const talks = new Map() // conversation → { title, lines, typing, unread }
  let current = 'lobby'

  // A line that can be dropped by hand: while it is, nothing goes out and nothing comes in.
  let dropped = false
  let line = null
  class Line extends WebSocket {
    constructor (...args) {
      if (dropped) throw new Error('the line is dropped')
      super(...args)
      line = this
    }
  }
  const client = new WebSocketClient({
    baseUrl: '/api/websocket',
    token: () => login(who),
    WebSocket: Line,
    fetch: (...args) => dropped ? Promise.reject(new TypeError('the line is dropped')) : fetch(...args),
    reconnectDelay: 1000
  })

  const nameOf = (id) => names.get(id) ?? (id === 0 ? 'the host' : `User ${id}`)
  const direct = (id) => `dm-${Math.min(id, who.userId)}-${Math.max(id, who.userId)}`
  const peerOf = (conversation) => {
    const [, one, two] = /^dm-(\d+)-(\d+)$/.exec(conversation) ?? []
    return one === undefined ? null : Number(one) === who.userId ? Number(two) : Number(one)
  }
  const talk = (conversation) => {
    if (!talks.has(conversation)) talks.set(conversation, { lines: new Map(), typing: new Set(), unread: 0 })
    return talks.get(conversation)
  }

  function add (conversation, { id, by, text, at, state = '' }) {
    const known = talk(conversation)
    if (conversation !== current && !known.lines.has(id) && by !== who.userId) known.unread++
    known.lines.set(id, { id, by, text, at, state })
    if (conversation === current) show()
    else lists()
  }

  function show () {
    const { lines, typing } = talk(current)
    const peer = peerOf(current)
    $('title').textContent = peer === null ? `# ${current}` : nameOf(peer)
    $('notify').hidden = peer === null
    $('messages').replaceChildren(...[...lines.values()].map(({ by, text, at, state }) => make('li', { className: by === who.userId ? 'mine' : '' },
      make('div', { className: 'by' }, make('span', { textContent: by === who.userId ? 'You' : nameOf(by) }), make('span', { textContent: `${at ? time(at) : ''} ${state}` })),
      make('div', { textContent: text }))))
    $('messages').scrollTop = $('messages').scrollHeight
    const typists = [...typing].map(nameOf)
    $('typing').textContent = typists.length === 0 ? '' : `${typists.join(', ')} ${typists.length === 1 ? 'is' : 'are'} typing…`
    lists()
  }

  function entry (conversation, label, status) {
    const { unread } = talk(conversation)
    const button = make('button', { type: 'button' }, ...status === undefined ? [] : [make('span', { className: `dot ${status}`, ariaHidden: 'true' })], label,
      ...unread > 0 ? [make('span', { className: 'unread', textContent: String(unread), ariaLabel: `${unread} unread` })] : [],
      ...status === undefined || status === 'online' || unread > 0 ? [] : [make('span', { className: 'status', textContent: status })])
    button.setAttribute('aria-current', String(conversation === current))
    button.addEventListener('click', () => {
      current = conversation
      talk(conversation).unread = 0
      show()
      $('text').focus()
    })
    return make('li', {}, button)
  }

  function lists () {
    $('groups').replaceChildren(...GROUPS.map((group) => entry(group, `# ${group}`)))
    const others = [...people].filter(([id]) => id !== who.userId).sort(([a], [b]) => a - b)
    $('people').replaceChildren(...others.map(([id, status]) => entry(direct(id), nameOf(id), status)))
    $('count').textContent = `(${others.length})`
  }

  async function readPeople () {
    try {
      const online = await client.getOnlineUsers({ limit: 500 })
      people.clear()
      for (const { user_id: id, name, status } of online) {
        people.set(id, status)
        if (name) names.set(id, name)
      }
      lists()
    } catch {} // shown by the strip
  }

  const strip = (text, className = '') => {
    $('state').textContent = text
    $('light').className = className
  }
  client.on('connected', ({ transport }) => {
    strip(transport === 'polling' ? 'Connected by polling: sockets are blocked' : 'Connected', transport === 'polling' ? 'polling' : 'on')
    void readPeople()
  })
  client.on('disconnected', ({ code, willReconnect }) => strip(willReconnect ? `Disconnected (${code}): coming back…` : `Ended (${code})`))
  client.on('reconnecting', ({ attempt, delay }) => strip(`Attempt ${attempt} in ${(delay / 1000).toFixed(1)} s…`))
  client.on('transport', ({ transport }) => { if (transport === 'polling') strip('Connected by polling: sockets are blocked', 'polling') })
  client.on('gap', ({ channel }) => toast(`Something of ${channel} is gone: reload the page`))
  client.on('error', ({ code, message }) => toast(`${message} (${code})`))

  client.on('message:group', ({ messageId, userId, channel, message, timestamp }) => {
    add(channel.slice('group.'.length), { id: messageId, by: userId, text: message, at: timestamp })
    if (!names.has(userId)) void readPeople()
  })
  client.on('message:direct', ({ messageId, senderId, message, conversationId, timestamp }) => {
    add(conversationId, { id: messageId, by: senderId, text: message, at: timestamp, state: senderId === who.userId ? '✓' : '' })
    if (!names.has(senderId)) void readPeople()
  })
  client.on('message:delivered', ({ messageId }) => {
    for (const { lines } of talks.values()) {
      const sent = lines.get(messageId)
      if (sent !== undefined) sent.state = '✓✓'
    }
    show()
  })
  client.on('user:typing', ({ userId, isTyping, conversationId }) => {
    const { typing } = talk(conversationId)
    if (isTyping && userId !== who.userId) typing.add(userId)
    else typing.delete(userId)
    if (conversationId === current) show()
  })
  client.on('user:online', ({ userId }) => {
    people.set(userId, 'online')
    if (names.has(userId)) lists()
    else void readPeople()
  })
  client.on('user:offline', ({ userId }) => {
    people.delete(userId)
    lists()
  })
  client.on('user:presence', ({ userId, status }) => {
    if (status === 'offline') people.delete(userId)
    else people.set(userId, status)
    lists()
    if (userId === who.userId) $('status').value = status
  })
  client.on('notification:received', ({ title, body }) => toast(`${title}: ${body}`))
  client.on('broadcast:message', ({ message, senderId }) => toast(`${nameOf(senderId)} to everyone: ${message}`))

  for (const group of GROUPS) void client.subscribe(`group.${group}`, { since: 0 }).catch(() => {})

  const audience = () => {
    const peer = peerOf(current)
    return peer === null ? { channel: `group.${current}` } : { recipientId: peer }
  }
  $('text').addEventListener('input', () => { if ($('text').value !== '') client.recordTyping(current, true, audience()) })
  $('send').addEventListener('submit', async (event) => {
    event.preventDefault()
    const [text, conversation, to] = [$('text').value.trim(), current, audience()]
    if (text === '') return
    $('text').value = ''
    const waiting = `waiting ${Date.now()} ${Math.random()}`
    add(conversation, { id: waiting, by: who.userId, text, at: null, state: '…' })
    const own = talk(conversation).lines.get(waiting)
    try {
      const { messageId, timestamp } = await client.send(to.channel === undefined ? 'message:direct' : 'message:group', { ...to, message: text, conversationId: conversation })
      talk(conversation).lines.delete(waiting)
      add(conversation, { id: messageId, by: who.userId, text, at: timestamp, state: talk(conversation).lines.get(messageId)?.state || '✓' })
    } catch (err) {
      own.state = `not sent: ${err.message}`
      show()
    }
  })
  $('notify').addEventListener('click', async () => {
    try {
      await client.send('notification:send', { recipientIds: [peerOf(current)], title: who.name, body: 'nudges you' })
      toast('Nudged')
    } catch (err) {
      toast(err.message)
    }
  })
  $('broadcast').addEventListener('submit', async (event) => {
    event.preventDefault()
    try {
      await client.send('broadcast:message', { message: $('broadcast').elements.message.value })
      $('broadcast').reset()
    } catch (err) {
      toast(err.message)
    }
  })
  $('status').addEventListener('change', () => {
    client.updatePresence($('status').value, { device: matchMedia('(max-width: 44rem)').matches ? 'mobile' : 'desktop' }).catch((err) => toast(err.message))
  })
  $('drop').addEventListener('click', () => {
    dropped = !dropped
    $('drop').textContent = dropped ? 'Mend the line' : 'Drop the line'
    $('drop').setAttribute('aria-pressed', String(dropped))
    if (dropped) line?.close()
    else window.dispatchEvent(new Event('online'))
  })

  form.hidden = true
  $('me').textContent = `${who.name} (${who.userId}), club ${who.clubId}`
  $('broadcast').hidden = who.admin !== true
  $('strip').hidden = $('club').hidden = false
  strip('Connecting…')
  show()
  $('text').focus()
}
