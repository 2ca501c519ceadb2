// The open conversation: its messages, typing users, and the notice of new messages below.
import { $, arrange, bidi, count, make } from '/dom.js'
import { createRows, markOf } from '/message.js'
import { isSmall } from '/place.js'
import { roomName } from '/state.js'

/** Pixels from the end that count as its end, and from the beginning at which older messages are loaded. */
const NEAR = 60
const EARLY = 300
const TYPISTS = 3

export function showRoom ({ client, state, loadOlder, actions, showMembers, toast }) {
  const [list, scroller] = [$('messages'), $('scroller')]
  const row = createRows({ state, actions })
  let talk = null
  let isAtEnd = true
  let seenId = 0 // the newest message at the time when the end was last in view
  let firstUnread = null

  const newestId = () => Math.max(0, ...talk.messages.keys())
  const toEnd = () => {
    scroller.scrollTop = scroller.scrollHeight
    isAtEnd = true
  }

  function enter () {
    talk = state.open()
    isAtEnd = true
    firstUnread = null
    // Another conversation is no news to be read out.
    scroller.ariaLive = 'off'
    setTimeout(() => { scroller.ariaLive = 'polite' }, 500)
    loadOlder(talk)
  }

  function render () {
    if (talk !== state.open()) enter()
    const first = list.firstElementChild
    const top = first?.offsetTop ?? 0
    const stored = [...talk.messages.values()].sort((a, b) => a.id - b.id)
    const all = [...stored, ...talk.waiting]
    // Where somebody begins to read stays marked until the conversation is left.
    if (firstUnread === null && talk.isLoaded) firstUnread = (talk.unread > 0 && stored.find(({ id, by }) => by !== state.me.userId && id > talk.readUpTo)) || undefined
    const read = stored.findLast((message) => message.by === state.me.userId && markOf(message, { ...talk, delivered: state.delivered })[1].startsWith('read'))
    arrange(list, all.map((message, i) => row(message, { before: all[i - 1], talk, isLastRead: message === read, isFirstUnread: message === firstUnread })))

    if (isAtEnd) toEnd()
    // Older messages were added above: keeps the scroll position.
    else if (first?.isConnected) scroller.scrollTop += first.offsetTop - top
    if (isAtEnd) {
      seenId = newestId()
      markRead()
    }
    const fresh = stored.filter(({ id, by }) => id > seenId && by !== state.me.userId).length
    $('pill').hidden = isAtEnd
    $('pill').textContent = fresh > 0 ? `↓ ${count(fresh, 'new message')}` : '↓ Newest'
    $('pill').classList.toggle('fresh', fresh > 0)
    showHeader()
    showTyping()
    $('empty').hidden = !talk.isLoaded || all.length > 0
    $('empty-title').textContent = talk.peer === null ? `This is ${roomName(talk.channel)}` : `You and ${state.nameOf(talk.peer)}`
    $('empty').classList.toggle('alone', talk.peer === null && state.people.size <= 1)
    if (talk.isLoaded && talk.hasOlder && scroller.scrollHeight <= scroller.clientHeight) loadOlder(talk)
  }

  function showHeader () {
    const { peer, members } = talk
    if ($('title').textContent !== state.titleOf(talk)) $('title').replaceChildren(bidi(state.titleOf(talk)))
    $('notify').hidden = peer === null
    const { status, text } = state.people.get(peer) ?? { status: 'offline', text: '' }
    $('about').textContent = peer === null ? '' : [status, text].filter(Boolean).join(' · ')
    $('who').hidden = members === null
    $('who').textContent = `${members?.count ?? 0} here`
    showMembers(talk)
  }

  function showTyping () {
    const names = [...talk.typing].map((id) => state.nameOf(id))
    const more = names.length - TYPISTS
    const shown = names.slice(0, TYPISTS)
    const said = more > 0 || shown.length < 2 ? shown.join(', ') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`
    const rest = more > 0 ? ` and ${count(more, 'other')} are typing…` : names.length > 1 ? ' are typing…' : ' is typing…'
    if ($('typing').textContent === (names.length === 0 ? '' : said + rest)) return
    $('typing').replaceChildren(...names.length === 0 ? [] : [bidi(said), make('span', { textContent: rest })])
  }

  let marking = false
  async function markRead () {
    const id = newestId()
    if (marking || document.hidden || !talk.isLoaded || talk.unread === 0 || document.body.dataset.view === 'list' && isSmall()) return
    marking = true
    const marked = talk
    marked.unread = 0
    marked.readUpTo = Math.max(marked.readUpTo, id)
    await client.markRead(marked.where, id).catch(() => {})
    marking = false
    state.changed()
  }

  scroller.addEventListener('scroll', () => {
    const wasAtEnd = isAtEnd
    isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR
    if (scroller.scrollTop < EARLY && talk.isLoaded) loadOlder(talk)
    if (isAtEnd !== wasAtEnd) state.changed()
  })
  // Keeps the end visible when the keyboard opens or the message field grows.
  new ResizeObserver(() => { if (isAtEnd) toEnd() }).observe(scroller)
  document.addEventListener('visibilitychange', () => state.changed())
  $('pill').addEventListener('click', () => {
    toEnd()
    state.changed()
    $('text').focus()
  })
  // Arrows move among the messages; the buttons of the one in focus can be reached.
  scroller.addEventListener('keydown', (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key]
    if (step === undefined) return
    const rows = [...list.children]
    const at = rows.indexOf(document.activeElement.closest('li'))
    rows[at < 0 ? rows.length - 1 : Math.max(0, Math.min(at + step, rows.length - 1))]?.focus()
    event.preventDefault()
  })
  scroller.addEventListener('focusin', ({ target }) => {
    for (const one of list.querySelectorAll('.acts button')) one.tabIndex = one.closest('li').contains(target) || one.closest('.failed') ? 0 : -1
  })
  $('notify').addEventListener('click', async () => {
    const { peer } = talk
    try {
      await client.send('notification:send', { recipientIds: [peer], title: state.me.name, body: 'nudges you' })
      toast(`${state.nameOf(peer)} is nudged`)
    } catch (err) {
      toast(err.message)
    }
  })
  state.onChange(render)
  render()
  return { toEnd }
}
