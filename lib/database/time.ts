import { timeText } from '../clock.js'

/** UTC text of one fixed width, so that text order is time order and no time zone of session or driver plays a part. */
export const toSqlTime = timeText(' ', '')

/** The same, with a memory of its own: rows are made of a time and one that is some seconds later, in turns. */
export const toLaterSqlTime = timeText(' ', '')

/** Back to milliseconds since 1970. A host's own driver may hand out a Date made from local time: read times as text. */
export const fromSqlTime = (text: string): number => Date.parse(text.slice(0, 23).replace(' ', 'T') + 'Z')
