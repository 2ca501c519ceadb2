// What both pages look like.
export const name = new URLSearchParams(location.search).get('name')
const [state, members, messages, typing] = ['p', 'p', 'ol', 'p'].map((tag) => document.body.appendChild(document.createElement(tag)))
export const form = document.body.appendChild(document.createElement('form'))
export const input = form.appendChild(document.createElement('input'))
Object.entries({ state, members, messages, typing, input }).forEach(([id, element]) => { element.id = id })
form.addEventListener('submit', (event) => {
  event.preventDefault()
  setTimeout(() => { input.value = '' })
})

export const showState = (text) => { state.textContent = text }
export const showMembers = (names) => { members.textContent = [...names].sort().join() }
export const showMessage = (from, text) => {
  messages.appendChild(document.createElement('li')).textContent = `${from}: ${text}`
  showTyping(from, false)
}
export const showTyping = (from, isTyping) => { typing.textContent = isTyping ? `${from} is typing` : '' }
