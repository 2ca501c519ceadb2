import { STATUS_CODES } from 'node:http'
import type { FastifyBaseLogger, FastifyError, FastifyInstance, FastifyReply } from 'fastify'
import { errorBody, RealtimeError, type ErrorBody } from '../errors.js'
import { InputError, inputCompiler } from './rest-input.js'

/** Maximum size of a request body in bytes, independent of the host's limit. */
const BODY_LIMIT = 1024 * 1024

/**
 * Opens a scope that is independent of the host: errors, bodies, validation and replies do not depend on the error handler,
 * the parsers, the validator, the serializer or the limits of the host's own routes. The host's hooks run as everywhere, and
 * the host's error handler handles the errors they throw.
 */
export async function ownScope (
  fastify: FastifyInstance, prefix: string, fill: (scope: FastifyInstance) => void | Promise<void>
): Promise<void> {
  // The handler of the surrounding scope; a host may set another one later.
  const next = fastify.errorHandler
  await fastify.register(async (scope) => {
    scope.setErrorHandler((error: FastifyError, request, reply) => {
      const answer = answerTo(error)
      if (answer !== null) return refuse(answer, error, request, reply)
      // An error of the host: its own error handler is next.
      if (fastify.errorHandler === next) throw error
      return fastify.errorHandler(error, request, reply)
    })
    scope.setSchemaErrorFormatter((errors, part) => new InputError(errors, part))
    scope.setValidatorCompiler(inputCompiler())
    scope.setSerializerCompiler(() => serialize)
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('application/json', { parseAs: 'string', bodyLimit: BODY_LIMIT }, scope.getDefaultJsonParser('error', 'error'))
    await fill(scope)
  }, { prefix })
}

/** The body for an error; null if it belongs to the host. */
function answerTo (error: FastifyError): ErrorBody | null {
  if (error instanceof RealtimeError) return errorBody(error)
  if (error instanceof InputError) return shapeOf(error, error.statusCode)
  // Fastify's own errors about the body: too large, no JSON, another media type.
  const ofBody = error.code?.startsWith('FST_ERR_CTP_') && error.statusCode !== undefined && error.statusCode < 500
  return ofBody ? shapeOf(error, error.statusCode ?? 400) : null
}

const shapeOf = ({ code, message }: Pick<FastifyError, 'code' | 'message'>, statusCode: number): ErrorBody =>
  ({ statusCode, code, error: STATUS_CODES[statusCode] ?? 'Error', message })

function refuse (answer: ErrorBody, error: FastifyError, { log }: { log: FastifyBaseLogger }, reply: FastifyReply): void {
  if (answer.statusCode < 500) log.info({ err: error }, answer.message)
  else if (answer.code !== 'RT_INTERNAL') log.warn({ err: error }, answer.message) // that one is logged with its cause
  if (error instanceof RealtimeError && error.retryAfter !== undefined) reply.header('retry-after', error.retryAfter)
  reply.code(answer.statusCode)
  sendText(reply, JSON.stringify(answer))
}

/** Sends JSON as text, which skips the host's `preSerialization` hooks: they may wrap the responses of the host's own routes. */
export function sendText (reply: Pick<FastifyReply, 'header' | 'send'>, json: string | Buffer): void {
  reply.header('content-type', 'application/json; charset=utf-8')
  reply.send(json)
}

/** For replies of the host's hooks and error handler; handlers in this scope send text. */
function serialize (value: unknown): string {
  if (!(value instanceof Error)) return JSON.stringify(value)
  const { statusCode = 500, code, message } = value as FastifyError
  return JSON.stringify(shapeOf({ code, message }, statusCode))
}

