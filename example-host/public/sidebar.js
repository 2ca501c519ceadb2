// Conversations and people, and the box that finds them.
import { $, arrange, bidi, byName, face, make, rove } from '/dom.js'
import { roomName } from '/state.js'
import { whenOf } from '/message.js'

/** People shown without a search. */
const SHOWN = 100
const SEARCH_AFTER = 200
const ROOM = /^#?([a-z0-9][a-z0-9._-]{0,39})$/

export function showSidebar ({ state, token, open }) {
  const { me } = state
  const rows = new Map() // key → li
  const found = new Map() // people who are offline, found by the host: id → name
  let sought = ''
  const settle = rove($('nav'), 'li button')

  function row (key, { icon, name, status, detail = '', when = '', unread = 0 }) {
    if (!rows.has(key)) rows.set(key, make('li', {}, make('button', { type: 'button', tabIndex: -1, onclick: () => open(key) })))
    const element = rows.get(key)
    const button = element.firstChild
    button.ariaCurrent = String(key === state.current)
    const said = JSON.stringify([name, status, detail, when, unread])
    if (element.dataset.said === said) return element
    element.dataset.said = said
    button.className = `${status === 'offline' ? 'gone' : ''} ${detail === '' ? 'bare' : ''}`
    button.replaceChildren(icon(),
      make('span', { className: 'name' }, bidi(name)), make('span', { className: 'when', textContent: when }),
      ...status === undefined ? [] : [make('span', { className: 'hidden', textContent: ` ${status} ` })],
      make('span', { className: 'detail' }, bidi(detail)),
      ...unread === 0 ? [] : [make('span', { className: 'unread' }, unread > 99 ? '99+' : String(unread), make('span', { className: 'hidden', textContent: ' unread' }))])
    return element
  }
  const person = (id, more = {}) => {
    const [name, { status, text }] = [state.nameOf(id), state.people.get(id) ?? { status: 'offline', text: '' }]
    return row(`with:${id}`, { icon: () => face(id, name, make('i', { className: `dot ${status}` })), name, status, ...more, detail: more.detail || text || (status === 'online' ? '' : status) })
  }
  const hash = () => make('span', { className: 'hash', textContent: '#', ariaHidden: 'true' })

  function conversation (talk) {
    const { last, unread, waiting } = talk
    const newest = waiting.at(-1) ?? last
    const by = newest === null || newest === undefined ? '' : newest.by === me.userId ? 'You: ' : talk.peer === null ? `${state.nameOf(newest.by)}: ` : ''
    const detail = !newest ? '' : newest.isDeleted ? 'Message deleted' : `${by}${newest.text.slice(0, 80)}`
    const shown = { detail, when: newest?.at ? whenOf(newest.at) : '', unread }
    return talk.peer === null ? row(talk.key, { icon: hash, name: roomName(talk.channel).slice(1), ...shown }) : person(talk.peer, shown)
  }

  function render () {
    const matches = (name) => name.toLowerCase().split(/\s+/).concat(name.toLowerCase()).some((word) => word.startsWith(sought.replace(/^#/, '')))
    const talks = [...state.talks.values()].filter((talk) => talk.isListed && (talk.peer === null ? talk.channel.startsWith('group.') : true))
    const listed = talks.filter((talk) => matches(state.titleOf(talk).replace(/^#/, ''))).sort((a, b) => (b.waiting.length - a.waiting.length) || (b.last?.id ?? 0) - (a.last?.id ?? 0))
    arrange($('talks'), [...listed.map(conversation), ...newRoom(talks)])

    const withTalk = new Set(talks.map(({ peer }) => peer))
    const others = [...new Set([...state.people.keys(), ...sought === '' ? [] : found.keys()])].filter((id) => id !== me.userId)
    const rank = (id) => state.statusOf(id) === 'offline' ? 1 : 0
    const shown = others.filter((id) => !withTalk.has(id) && matches(state.nameOf(id)))
      .sort((a, b) => rank(a) - rank(b) || byName(state.nameOf(a), state.nameOf(b)) || (a < b ? -1 : 1))
    arrange($('people'), shown.slice(0, SHOWN).map((id) => person(id)))
    $('more').textContent = shown.length > SHOWN ? `and ${shown.length - SHOWN} more: type a name above` : ''
    const isAlone = others.every((id) => rank(id) === 1)
    $('nobody').hidden = shown.length > 0 || listed.length > 0 && sought !== ''
    $('nobody').firstChild.textContent = sought !== '' ? 'Nobody of this name. ' : isAlone ? 'Nobody else is here. ' : 'Everybody here is in your conversations. '
    $('nobody').lastChild.hidden = sought === '' && !isAlone
    $('count').textContent = `${others.filter((id) => rank(id) === 0).length} online`
    const unread = state.unread()
    $('back').lastElementChild.replaceChildren(...unread === 0 ? [] : [String(unread), make('span', { className: 'hidden', textContent: ' unread' })])
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${me.name} · fastify-realtime`
    settle()
  }

  function newRoom (talks) {
    const name = ROOM.exec(sought)?.[1]
    if (name === undefined || talks.some(({ key }) => key === `group.${name}`)) return []
    return [row(`group.${name}`, { icon: hash, name, detail: 'Open this room' })]
  }

  let timer
  $('find').addEventListener('input', () => {
    sought = $('find').value.trim().toLowerCase()
    clearTimeout(timer)
    if (sought !== '') timer = setTimeout(() => { search().catch(() => {}) }, SEARCH_AFTER)
    render()
  })
  async function search () {
    const response = await fetch(`/people?search=${encodeURIComponent(sought)}`, { headers: { authorization: `Bearer ${await token()}` } })
    for (const { userId, name } of (await response.json()).people) {
      found.set(userId, name)
      state.names.set(userId, name)
    }
    render()
  }
  $('find').addEventListener('keydown', (event) => {
    const first = $('nav').querySelector('li button')
    if (event.key === 'ArrowDown') first?.focus()
    else if (event.key === 'Enter' && sought !== '') first?.click()
    else if (event.key === 'Escape') clear()
    else return
    event.preventDefault()
  })
  function clear () {
    $('find').value = sought = ''
    render()
  }
  state.onChange(render)
  render()
  return { clear }
}
