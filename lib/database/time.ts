import { timeFormat } from '../clock.js'

/** A time as stored in columns: UTC text of fixed width, so that text order is time order, regardless of the time zone of session and driver. */
export const toSqlTime = timeFormat(' ', '')

/** Converts stored text to milliseconds since 1970. Select times as text: the driver of a host's own pool may turn them into a Date in local time. */
export const fromSqlTime = (text: string): number => Date.parse(text.slice(0, 23).replace(' ', 'T') + 'Z')
