// Who is in the room.
import { $, arrange, bidi, byName, face, make, rove } from '/dom.js'

/** Returns a function that shows the members of a conversation. */
export function createMembers ({ state, open }) {
  const rows = new Map() // user id → li
  const settle = rove($('members'), 'button')

  function row (id) {
    if (!rows.has(id)) rows.set(id, make('li', {}, make('button', { type: 'button', tabIndex: -1, className: 'bare', disabled: id === state.me.userId, onclick: () => open(`with:${id}`) })))
    const element = rows.get(id)
    const [name, status] = [state.nameOf(id), id === state.me.userId ? 'online' : state.statusOf(id)]
    const said = `${name} ${status}`
    if (element.dataset.said !== said) {
      element.dataset.said = said
      element.firstChild.replaceChildren(face(id, name, make('i', { className: `dot ${status}` })), make('span', { className: 'name' }, bidi(name)),
        make('span', { className: 'detail', textContent: id === state.me.userId ? 'you' : '' }))
    }
    return element
  }

  return (talk) => {
    $('in-room').hidden = talk.members === null
    if (talk.members === null) return
    const { ids, count } = talk.members
    arrange($('members'), [...ids].sort((a, b) => byName(state.nameOf(a), state.nameOf(b))).map(row))
    $('members-more').textContent = count > ids.size ? `and ${count - ids.size} more` : ''
    settle()
  }
}
