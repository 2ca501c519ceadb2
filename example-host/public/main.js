// The demo page: a chat over fastify-realtime's own client.
import { WebSocketClient } from '/client.js'
import { showComposer } from '/composer.js'
import { $, followConnection, hasIntegerIds, login, make, readId } from '/dom.js'
import { createLine, DOWN } from '/line.js'
import { follow } from '/live.js'
import { showMe } from '/me.js'
import { createMembers } from '/members.js'
import { showRoom } from '/room.js'
import { showSidebar } from '/sidebar.js'
import { createState, ROOMS } from '/state.js'
import { createWire } from '/wire.js'

/** Milliseconds for which a toast stays, and how many there are at once. */
const STAYS = 8000
const TOASTS = 3

function toast (text, className = '', onclick = null) {
  const line = onclick === null ? make('p', { textContent: text, className, dir: 'auto' }) : make('button', { type: 'button', textContent: text, className, dir: 'auto', onclick })
  line.addEventListener('click', () => line.remove())
  $('toasts').append(line)
  while ($('toasts').children.length > TOASTS) $('toasts').firstChild.remove()
  setTimeout(() => line.remove(), STAYS)
  return line
}

// Who comes in. The tab remembers it over a reload.
const form = $('login')
const { userId, name, clubId } = form.elements
if (!hasIntegerIds) for (const input of [userId, clubId]) Object.assign(input, { type: 'text', maxLength: 64, pattern: '[A-Za-z0-9._\\-@+=\\|]+' })
const given = new URLSearchParams(location.search)
userId.value = given.get('userId') ?? 1 + Math.floor(Math.random() * 999_999)
clubId.value = given.get('clubId') ?? '1'
name.value = given.get('name') ?? ''
name.addEventListener('input', () => name.setCustomValidity(name.value.trim() === '' ? 'Please enter a name.' : ''))
form.addEventListener('submit', (event) => {
  event.preventDefault()
  void come({ name: name.value.trim(), userId: readId(userId.value), clubId: readId(clubId.value), admin: form.elements.admin.checked })
})

async function come (who) {
  try {
    const first = await login(who)
    sessionStorage.setItem('session', JSON.stringify(who))
    // A reload enters again, instead of asking.
    history.replaceState(null, '', `/${location.hash}`)
    enter(who, first)
  } catch (err) {
    $('refused').textContent = err.message
    form.hidden = false
  }
}
const session = sessionStorage.getItem('session')
if (session === null || given.has('name')) form.hidden = false
else void come(JSON.parse(session))

function enter (who, first) {
  // The address is the conversation, so that the back button of a phone goes back.
  const keyIn = () => decodeURIComponent(location.hash.slice(1)) || ROOMS[0]
  const state = createState(who)
  state.current = keyIn()
  const line = createLine(createWire())
  let token = Promise.resolve(first)
  const client = new WebSocketClient({
    baseUrl: '/api/websocket',
    token: async () => await (token = login(who)),
    WebSocket: line.WebSocket,
    fetch: line.fetch,
    reconnectDelay: 1000,
    pollInterval: 2000
  })
  followConnection(client)

  // On a phone the keyboard would cover what is to be read.
  const focus = () => $(matchMedia('(hover: hover)').matches ? 'text' : 'scroller').focus()
  const view = (name) => { document.body.dataset.view = name }
  const open = (key) => {
    if (keyIn() !== key) location.hash = encodeURIComponent(key)
    show()
    focus()
  }
  function show () {
    state.current = keyIn()
    view('room')
    sidebar.clear()
    side('')
    for (const line of document.querySelectorAll('#toasts button')) if (line.dataset.key === state.current) line.remove()
    // At once: what is typed next belongs there.
    state.show()
  }
  window.addEventListener('hashchange', show)
  $('back').addEventListener('click', () => {
    view('list')
    $('talks').querySelector('button')?.focus()
  })

  // Members and the wire stand beside the messages, or lie over them where there is no room.
  const side = (name) => {
    document.body.dataset.side = document.body.dataset.side === name ? '' : name
    for (const [id, of] of [['who', 'members'], ['tap', 'wire']]) $(id).ariaExpanded = String(document.body.dataset.side === of)
  }
  $('who').addEventListener('click', () => side('members'))
  $('tap').addEventListener('click', () => side('wire'))
  for (const button of document.querySelectorAll('.shut')) button.addEventListener('click', () => side(''))

  const news = (talk, { text, by }) => {
    const isSeen = !document.hidden && (document.body.dataset.view === 'list' || talk === state.open())
    if (talk.peer === null || isSeen) return
    const isKnown = state.names.has(by)
    const say = () => `${state.nameOf(by)}: ${text.slice(0, 120)}`
    const line = toast(say(), 'direct', () => open(talk.key))
    line.dataset.key = talk.key
    if (!isKnown) state.onChange(() => { line.textContent = say() })
  }
  const ask = () => token
  const { loadOlder } = follow({ client, state, token: ask, toast, news })
  let room = null
  const actions = showComposer({ client, state, toEnd: () => room.toEnd() })
  room = showRoom({ client, state, loadOlder, actions, toast, showMembers: createMembers({ state, open }) })
  const sidebar = showSidebar({ state, token: ask, open })
  showMe({ client, state, toast })

  $('drop').addEventListener('click', () => {
    let left = DOWN / 1000
    const label = $('drop').textContent
    $('drop').disabled = true
    const tell = () => { $('drop').textContent = `Back in ${left--} s` }
    tell()
    const timer = setInterval(tell, 1000)
    line.drop(() => {
      clearInterval(timer)
      Object.assign($('drop'), { disabled: false, textContent: label })
      client.wake()
    })
  })
  $('again').addEventListener('click', () => client.connect())
  client.on('disconnected', ({ willReconnect }) => { $('again').hidden = willReconnect })
  client.on('connected', () => { $('again').hidden = true })
  $('leave').addEventListener('click', async () => {
    sessionStorage.removeItem('session')
    await client.disconnect()
    location.assign('/')
  })

  $('door').hidden = true
  $('strip').hidden = $('club').hidden = false
  view('room')
  focus()
}
