// The demo page: a chat over fastify-realtime's own client.
import { WebSocketClient } from '/client.js'
import { showComposer } from '/composer.js'
import { $, followConnection, hasIntegerIds, login, make, readId } from '/dom.js'
import { createLine, DOWN } from '/line.js'
import { follow } from '/live.js'
import { showMe } from '/me.js'
import { createMembers } from '/members.js'
import { createPlace, isSmall } from '/place.js'
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
// Something that can be seen: neither spaces nor invisible letters.
const VISIBLE = /(?![\u115F\u1160\u2800\u3164\uFFA0])[\p{L}\p{N}\p{P}\p{S}]/u
name.addEventListener('input', () => name.setCustomValidity(VISIBLE.test(name.value) ? '' : 'Please enter a name.'))
form.addEventListener('submit', (event) => {
  event.preventDefault()
  void come({ name: name.value.trim(), userId: readId(userId.value), clubId: readId(clubId.value), admin: form.elements.admin.checked })
})

async function come (who) {
  try {
    const first = await login(who)
    sessionStorage.setItem('session', JSON.stringify(who))
    // A reload enters again, instead of asking.
    history.replaceState(history.state, '', `/${location.hash}`)
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
  const state = createState(who)
  const line = createLine(createWire((said) => { toast(`Back again: ${said}`) }))
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

  // On a phone the keyboard would cover the messages.
  const focus = () => $(matchMedia('(hover: hover)').matches ? 'text' : 'scroller').focus()
  const place = createPlace(ROOMS[0], ({ key, view, side }) => {
    const isLeft = view === 'list' && document.body.dataset.view === 'room'
    if (key !== '') state.current = key
    Object.assign(document.body.dataset, { view, side })
    for (const [id, of] of [['who', 'members'], ['tap', 'wire']]) $(id).ariaExpanded = String(side === of)
    for (const line of document.querySelectorAll('#toasts button')) if (line.dataset.key === key) line.remove()
    // At once, so that the next keystrokes go there.
    state.show()
    if (isLeft && isSmall()) $('nav').querySelector('li button[tabindex="0"]')?.focus()
  })
  state.current = place.key
  const open = (key) => {
    place.open(key)
    sidebar.clear()
    focus()
  }
  $('back').addEventListener('click', () => place.toList())
  // Members and the wire are beside the messages, or over them on small screens.
  $('who').addEventListener('click', () => place.toggle('members'))
  $('tap').addEventListener('click', () => place.toggle('wire'))
  for (const button of document.querySelectorAll('.shut')) button.addEventListener('click', () => place.toggle(''))

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
  place.tell()
  focus()
}
