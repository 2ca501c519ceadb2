import { timeFormat } from '../clock.js'

/** A time as its columns hold it: UTC text of fixed width, so that text order is time order, whatever time zone session or driver have. */
export const toSqlTime = timeFormat(' ', '')

/** Back to milliseconds since 1970. Select times as text: the driver of a host's own pool may turn them into a Date in local time. */
export const fromSqlTime = (text: string): number => Date.parse(text.slice(0, 23).replace(' ', 'T') + 'Z')
