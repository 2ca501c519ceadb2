// One message on the page.
import { bidi, face, make } from '/dom.js'

const DAY = 86_400_000
const dayOf = (iso) => new Date(iso).setHours(0, 0, 0, 0)
const timeOf = (iso) => new Date(iso).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })

/** `12:05`, `Yesterday`, `3 Nov`. */
export function whenOf (iso) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - dayOf(iso)) / DAY)
  return days === 0 ? timeOf(iso) : days === 1 ? 'Yesterday' : new Date(iso).toLocaleDateString([], { day: 'numeric', month: 'short' })
}
const dayName = (iso) => dayOf(iso) === new Date().setHours(0, 0, 0, 0) ? 'Today' : new Date(iso).toLocaleDateString([], { weekday: 'long', day: 'numeric', month: 'long' })

/** The state of an own message: a sign, and its meaning for screen readers. */
export function markOf ({ id, state: fate, isDeleted }, { delivered, readers, peer }) {
  if (isDeleted) return ['', '']
  if (fate === 'failed') return ['!', 'not sent']
  if (fate === 'waiting') return ['…', 'waits for the line']
  const read = [...readers.values()].filter((upTo) => upTo >= id).length
  if (peer !== null && read > 0) return ['✓✓', 'read']
  if (peer === null && read > 0) return ['✓', `read by ${read}`]
  return delivered.has(id) ? ['✓✓', 'delivered'] : ['✓', 'stored']
}

/**
 * Makes and updates the element of a message. It stays the same element as long as the message is there, so that screen readers
 * do not read it out again. `actions`: `isEdited(message)`, `edit(message)`, `remove(message)`, `again(message)`, `discard(message)`.
 */
export function createRows ({ state, actions }) {
  const rows = new WeakMap() // message → li
  const button = (textContent, onclick, label = textContent) => make('button', { type: 'button', textContent, ariaLabel: label, onclick })

  function create (message, isMine) {
    const element = make('li', { tabIndex: -1 }, make('div', { className: 'by' }),
      make('div', { className: 'text', dir: 'auto' }), make('div', { className: 'at' }), make('div', { className: 'acts' }))
    if (!isMine) element.prepend(face(message.by, state.nameOf(message.by)))
    rows.set(message, element)
    return element
  }

  return function row (message, { before, isLastRead, isFirstUnread, talk }) {
    const isMine = message.by === state.me.userId
    const element = rows.get(message) ?? create(message, isMine)
    const name = isMine ? 'You' : state.nameOf(message.by)
    const [sign, meaning] = isMine ? markOf(message, { ...talk, delivered: state.delivered }) : ['', '']
    const isNewDay = message.at && (!before?.at || dayOf(before.at) !== dayOf(message.at))
    const said = JSON.stringify([name, message.text, message.at, message.editedAt, message.isDeleted, message.problem, sign, meaning, isLastRead, isNewDay])
    element.classList.toggle('mine', isMine)
    element.classList.toggle('more', before?.by === message.by && !isNewDay && !isFirstUnread)
    element.classList.toggle('deleted', message.isDeleted === true)
    element.classList.toggle('failed', message.state === 'failed')
    element.classList.toggle('new', isFirstUnread)
    element.classList.toggle('edited', actions.isEdited(message))
    if (element.dataset.said === said) return element
    element.dataset.said = said
    if (isNewDay) element.dataset.day = dayName(message.at)
    else delete element.dataset.day
    const [by, text, at, acts] = ['by', 'text', 'at', 'acts'].map((part) => element.querySelector(`.${part}`))
    if (!isMine && by.textContent !== name) element.firstChild.replaceWith(face(message.by, name))
    by.replaceChildren(bidi(name))
    text.textContent = message.isDeleted ? 'Message deleted' : message.text
    const word = message.state === 'failed' ? `Not sent: ${message.problem}` : isLastRead ? (talk.peer === null ? meaning[0].toUpperCase() + meaning.slice(1) : 'Read') : ''
    at.replaceChildren(message.at ? timeOf(message.at) : '', message.editedAt && !message.isDeleted ? ' edited' : '', word && make('span', { className: 'word', textContent: word }),
      ...sign === '' ? [] : [make('span', { className: 'mark', textContent: sign, title: meaning, role: 'img', ariaLabel: meaning })])
    acts.replaceChildren(...actsOf(message, isMine))
    return element
  }

  function actsOf (message, isMine) {
    if (message.state === 'failed') return [button('Send again', () => actions.again(message)), button('Discard', () => actions.discard(message))]
    if (!isMine || message.isDeleted || message.state === 'waiting') return []
    const remove = button('Delete', () => {
      if (remove.textContent === 'Delete') remove.textContent = remove.ariaLabel = 'Really delete?'
      else actions.remove(message)
    })
    remove.addEventListener('blur', () => { remove.textContent = remove.ariaLabel = 'Delete' })
    const all = [button('Edit', () => actions.edit(message)), remove]
    for (const one of all) one.tabIndex = -1
    return all
  }
}
