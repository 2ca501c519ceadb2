// The demo page: groups, people and their talks, over the suite's own client.
import { WebSocketClient } from '/client.js'
import { $, arrange, followConnection, hasIntegerIds, login, make, readId } from '/dom.js'

const SYSTEM = hasIntegerIds ? 0 : ''
const GROUPS = ['lobby', 'coffee']
const form = $('login')
const session = JSON.parse(sessionStorage.getItem('session') ?? 'null')
if (!hasIntegerIds) for (const input of [form.elements.userId, form.elements.clubId]) Object.assign(input, { type: 'text', maxLength: 64, pattern: '[A-Za-z0-9._\\-@+=\\|]+' })
form.elements.userId.value = session?.userId ?? 1 + Math.floor(Math.random() * 9999)
form.elements.name.value = session?.name ?? ''
form.addEventListener('submit', async (event) => {
  event.preventDefault()
  const { name, userId, clubId, admin } = Object.fromEntries(new FormData(form))
  const who = { name, userId: readId(userId), clubId: readId(clubId), ...admin ? { admin: true } : {} }
  sessionStorage.setItem('session', JSON.stringify(who))
  try {
    await login(who)
    enter(who)
  } catch (err) {
    toast(err.message)
  }
})

const time = (iso) => new Date(iso).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })

function toast (text, className = '') {
  const line = make('p', { textContent: text, className })
  $('toasts').append(line)
  setTimeout(() => line.remove(), 8000)
}

/** Initials on a colour of one's own. */
function face (id, name, ...more) {
  const initials = name.split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase()
  const element = make('span', { className: 'face', ariaHidden: 'true' }, initials, ...more)
  element.style.setProperty('--hue', String(hasIntegerIds ? id * 137 % 360 : [...id].reduce((hue, letter) => (hue * 31 + letter.charCodeAt(0)) % 360, 0)))
  return element
}

function enter (who) {
  const names = new Map([[who.userId, who.name]])
  const people = new Map() // user id → status
  const talks = new Map() // conversation → what was said there
  const delivered = new Set() // ids of messages
  const rooms = new Map() // group → who is there: version, and user ids
  let current = 'lobby'

  // A line that can be dropped by hand: while it is, nothing goes out and nothing comes in.
  let isDropped = false
  let line = null
  class Line extends WebSocket {
    constructor (...args) {
      if (isDropped) throw new Error('the line is dropped')
      super(...args)
      line = this
    }
  }
  const client = new WebSocketClient({
    baseUrl: '/api/websocket',
    token: () => login(who),
    WebSocket: Line,
    fetch: (...args) => isDropped ? Promise.reject(new TypeError('the line is dropped')) : fetch(...args),
    reconnectDelay: 1000,
    pollInterval: 2000
  })
  followConnection(client)

  const nameOf = (id) => names.get(id) ?? (id === SYSTEM ? 'The host' : `User ${id}`)
  // No id holds a colon.
  const direct = (id) => `dm:${id < who.userId ? `${id}:${who.userId}` : `${who.userId}:${id}`}`
  const peerOf = (conversation) => {
    const [kind, one, two] = conversation.split(':')
    return kind !== 'dm' ? null : readId(one) === who.userId ? readId(two) : readId(one)
  }
  const talk = (conversation) => {
    if (!talks.has(conversation)) talks.set(conversation, { lines: new Map(), typing: new Set(), unread: 0 })
    return talks.get(conversation)
  }

  // The messages. Each has an element of its own that stays: who listens to the page hears only what is new.
  const rows = new Map()

  function add (conversation, said) {
    const { lines } = talk(conversation)
    if (conversation !== current && !lines.has(said.id) && said.by !== who.userId) talk(conversation).unread++
    lines.set(said.id, said)
    if (conversation === current) showMessages()
    showLists()
  }

  function showMessages () {
    const list = $('messages')
    const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80
    // What the server has stands in its order; what still waits comes last.
    const lines = [...talk(current).lines.values()].sort((a, b) => (a.at ? a.id : Infinity) - (b.at ? b.id : Infinity) || 0)
    arrange(list, lines.map((said, i) => row(said, lines[i - 1])))
    if (wasAtEnd) list.scrollTop = list.scrollHeight
  }

  function row (said, before) {
    const { id, by, text, at } = said
    const isMine = by === who.userId
    if (!rows.has(id)) {
      rows.set(id, make('li', {}, face(by, nameOf(by)), make('div', { className: 'by' }), make('div', { className: 'text', textContent: text }), make('div', { className: 'at' })))
    }
    const element = rows.get(id)
    element.className = `${isMine ? 'mine' : ''} ${before?.by === by ? 'more' : ''}`
    const [mark, meaning] = !isMine ? ['', ''] : said.problem ? [`not sent: ${said.problem}`, ''] : !at ? ['…', 'waits for the line'] : delivered.has(id) ? ['✓✓', 'delivered'] : ['✓', 'stored']
    const [, author, , when] = element.children
    if (author.textContent !== (isMine ? 'You' : nameOf(by))) {
      author.textContent = isMine ? 'You' : nameOf(by)
      element.firstChild.replaceWith(face(by, nameOf(by)))
    }
    if (when.textContent !== `${at ? time(at) : ''}${mark}`) {
      when.replaceChildren(at ? time(at) : '', make('span', { className: 'mark', textContent: mark, title: meaning, role: meaning ? 'img' : null, ariaLabel: meaning || null }))
    }
    return element
  }

  function show () {
    const peer = peerOf(current)
    $('title').textContent = peer === null ? `# ${current}` : nameOf(peer)
    $('notify').hidden = peer === null
    // Another conversation is no news to be read out.
    $('messages').ariaLive = 'off'
    rows.clear()
    showMessages()
    $('messages').scrollTop = $('messages').scrollHeight
    requestAnimationFrame(() => { $('messages').ariaLive = 'polite' })
    showTyping()
    showLists()
  }

  function showTyping () {
    const typists = [...talk(current).typing].map(nameOf)
    $('typing').textContent = typists.length === 0 ? '' : `${typists.join(', ')} ${typists.length === 1 ? 'is' : 'are'} typing…`
  }

  // Groups and people. Their buttons stay as well: the focus must not be lost when somebody goes.
  const entries = new Map()

  function entry (conversation, icon, label, status) {
    if (!entries.has(conversation)) {
      const button = make('button', { type: 'button' })
      button.addEventListener('click', () => {
        current = conversation
        talk(conversation).unread = 0
        show()
        $('text').focus()
      })
      entries.set(conversation, make('li', {}, button))
    }
    const element = entries.get(conversation)
    const { unread } = talk(conversation)
    element.firstChild.ariaCurrent = String(conversation === current)
    element.firstChild.className = status === 'offline' ? 'gone' : ''
    const said = `${label} ${status} ${unread}`
    if (element.dataset.said !== said) {
      element.dataset.said = said
      element.firstChild.replaceChildren(icon, make('span', { className: 'name', textContent: label }),
        ...status === undefined ? [] : [make('span', { className: status === 'online' ? 'hidden' : 'status', textContent: status })],
        ...unread === 0 ? [] : [make('span', { className: 'unread' }, String(unread), make('span', { className: 'hidden', textContent: ' unread' }))])
    }
    return element
  }

  function showLists () {
    arrange($('groups'), GROUPS.map((group) => entry(group, make('span', { className: 'hash', textContent: '#', ariaHidden: 'true' }), group)))
    const others = [...people].filter(([id]) => id !== who.userId).sort(([a], [b]) => nameOf(a).localeCompare(nameOf(b)) || (a < b ? -1 : 1))
    arrange($('people'), others.map(([id, status]) => entry(direct(id), face(id, nameOf(id), make('i', { className: `dot ${status}` })), nameOf(id), status)))
    const online = others.filter(([, status]) => status !== 'offline').length
    $('count').textContent = `${online} here`
    const peer = peerOf(current)
    $('about').textContent = peer === null ? whoIsIn(current) : people.get(peer) ?? 'offline'
    const unread = [...talks.values()].reduce((sum, one) => sum + one.unread, 0)
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${who.name} · fastify-realtime`
  }

  function whoIsIn (group) {
    const { members, count } = rooms.get(group) ?? {}
    if (members === undefined) return 'Everyone in the club reads along'
    const names = [...members].filter((id) => id !== who.userId).map(nameOf)
    return `${['You', ...names.slice(0, 5)].join(', ')}${count > 6 ? ` and ${count - 6} more` : ''} ${count > 1 ? 'are' : 'is'} here`.replace('You is', 'You are')
  }

  function setRoom (channel, { members, count, version }) {
    for (const { userId, name } of members ?? []) if (name) names.set(userId, name)
    rooms.set(channel.slice('group.'.length), { count, version, members: new Set((members ?? []).map(({ userId }) => userId)) })
    showLists()
  }

  async function readRoom (channel) {
    const { data, total, version } = await client.get(`/channels/${encodeURIComponent(channel)}/members?limit=200`)
    setRoom(channel, { members: data.map(({ user_id: userId, name }) => ({ userId, name })), count: total, version })
  }

  // Changes of the people shown, however many are online.
  let watch = null
  async function watchPeople () {
    const before = watch
    watch = await client.watch([...people.keys()].slice(0, 500))
    before?.stop()
    for (const { userId, status } of watch.users) people.set(userId, status)
    showLists()
  }

  async function readPeople () {
    try {
      const online = await client.getOnlineUsers()
      for (const id of people.keys()) people.set(id, 'offline')
      for (const { user_id: id, name, status } of online) {
        people.set(id, status)
        if (name) names.set(id, name)
      }
      showMessages()
      showLists()
      if (client.transport === 'websocket' && people.size > 0) await watchPeople()
    } catch {} // shown by the strip
  }
  const meet = (id) => { if (!names.has(id) && id !== SYSTEM) void readPeople() }

  client.on('connected', () => void readPeople())
  // Presence is not heard by polling: it is asked for.
  setInterval(() => { if (client.transport === 'polling') void readPeople() }, 5000)
  client.on('gap', ({ channel }) => toast(`Something of ${channel} is gone: reload the page`))
  client.on('error', ({ code, message }) => toast(`${message} (${code})`))

  client.on('message:group', ({ messageId, userId, channel, message, timestamp }) => {
    add(channel.slice('group.'.length), { id: messageId, by: userId, text: message, at: timestamp })
    meet(userId)
  })
  client.on('message:direct', ({ messageId, senderId, message, conversationId, timestamp }) => {
    add(conversationId, { id: messageId, by: senderId, text: message, at: timestamp })
    meet(senderId)
    if (!people.has(senderId)) people.set(senderId, 'offline')
    showLists()
  })
  client.on('message:delivered', ({ messageId }) => {
    delivered.add(messageId)
    showMessages()
  })
  client.on('user:typing', ({ userId, isTyping, conversationId }) => {
    const { typing } = talk(conversationId)
    if (isTyping && userId !== who.userId) typing.add(userId)
    else typing.delete(userId)
    if (conversationId === current) showTyping()
  })
  client.on('user:online', ({ userId }) => {
    people.set(userId, 'online')
    meet(userId)
    showLists()
  })
  client.on('user:offline', ({ userId }) => {
    people.set(userId, 'offline')
    showLists()
  })
  client.on('user:presence', ({ userId, status }) => {
    people.set(userId, status)
    if (userId === who.userId) $('status').value = status
    showLists()
  })
  client.on('presence:mode', ({ everyone }) => { if (everyone) void readPeople() })
  client.on('subscribed', (subscribed) => { if (subscribed.members !== undefined) setRoom(subscribed.channel, subscribed) })
  client.on('channel:members', ({ channel, joined, left, count, version }) => {
    const room = rooms.get(channel.slice('group.'.length))
    if (joined === undefined || room === undefined || version !== room.version + 1) return void readRoom(channel).catch(() => {})
    const ids = new Set(room.members)
    for (const id of left) ids.delete(id)
    for (const { userId, name } of joined) {
      ids.add(userId)
      if (name) names.set(userId, name)
    }
    rooms.set(channel.slice('group.'.length), { count, version, members: ids })
    showLists()
  })
  client.on('notification:received', ({ title, body }) => toast(`${title} ${body}`))
  client.on('broadcast:message', ({ message, senderId }) => toast(`${nameOf(senderId)} to everyone: ${message}`, 'broadcast'))

  for (const group of GROUPS) void client.subscribe(`group.${group}`, { since: 0 }).catch(() => {})

  const audience = () => {
    const peer = peerOf(current)
    return peer === null ? { channel: `group.${current}` } : { recipientId: peer }
  }
  $('text').addEventListener('input', () => client.recordTyping(current, $('text').value !== '', audience()))
  $('send').addEventListener('submit', async (event) => {
    event.preventDefault()
    const [text, conversation, to] = [$('text').value.trim(), current, audience()]
    if (text === '') return
    $('text').value = ''
    const waiting = { id: `waiting ${Math.random()}`, by: who.userId, text, at: null }
    add(conversation, waiting)
    $('messages').scrollTop = $('messages').scrollHeight
    try {
      const { messageId, timestamp } = await client.send(to.channel === undefined ? 'message:direct' : 'message:group', { ...to, message: text, conversationId: conversation })
      talk(conversation).lines.delete(waiting.id)
      // Its element goes on as that of what was stored.
      const element = rows.get(waiting.id)
      if (element !== undefined) rows.set(messageId, element)
      rows.delete(waiting.id)
      add(conversation, { ...waiting, id: messageId, at: timestamp })
    } catch (err) {
      waiting.problem = err.message
      showMessages()
    }
  })
  const attempt = async (send, done) => {
    try {
      await send()
      done()
    } catch (err) {
      toast(err.message)
    }
  }
  $('notify').addEventListener('click', () => attempt(
    () => client.send('notification:send', { recipientIds: [peerOf(current)], title: who.name, body: 'nudges you' }),
    () => toast('Nudged')))
  $('broadcast').addEventListener('submit', (event) => {
    event.preventDefault()
    void attempt(() => client.send('broadcast:message', { message: $('announcement').value }), () => $('broadcast').reset())
  })
  $('status').addEventListener('change', () => attempt(
    () => client.updatePresence($('status').value, { device: matchMedia('(max-width: 44rem)').matches ? 'mobile' : 'desktop' }), () => {}))
  $('drop').addEventListener('click', () => {
    isDropped = !isDropped
    $('drop').textContent = isDropped ? 'Mend the line' : 'Drop the line'
    if (isDropped) line?.close()
    else window.dispatchEvent(new Event('online'))
  })

  form.hidden = true
  $('face').replaceWith(face(who.userId, who.name))
  $('me').replaceChildren(make('strong', { textContent: who.name }), make('span', { textContent: `club ${who.clubId}, user ${who.userId}` }))
  $('broadcast').hidden = who.admin !== true
  $('strip').hidden = $('club').hidden = false
  show()
  $('text').focus()
}
