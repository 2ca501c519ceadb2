import { STATUS_CODES } from 'node:http'
import type { FastifyBaseLogger, FastifyError, FastifyInstance, FastifyReply } from 'fastify'
import { errorBody, RealtimeError, type ErrorBody } from '../errors.js'
import { InputError, inputCompiler } from './rest-input.js'

/** Bytes of a request's body, whatever the host allows on its own routes. */
const BODY_LIMIT = 1024 * 1024

/**
 * Opens a scope that stands alone inside any host: errors of the suite, bodies, validation and replies do not depend on
 * the error handler, the parsers, the validator, the serializer or the limits that the host set for its own routes. The
 * host's hooks run as they do everywhere, and the errors they throw are answered by the host's error handler.
 */
export async function ownScope (
  fastify: FastifyInstance, prefix: string, fill: (scope: FastifyInstance) => void | Promise<void>
): Promise<void> {
  // The one that comes next; a host may set another one later.
  const next = fastify.errorHandler
  await fastify.register(async (scope) => {
    scope.setErrorHandler((error: FastifyError, request, reply) => {
      const answer = answerTo(error)
      if (answer !== null) return refuse(answer, error, request, reply)
      // An error of the host's, for its own error handler.
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

/** Null for an error that is not the suite's to answer. */
function answerTo (error: FastifyError): ErrorBody | null {
  if (error instanceof RealtimeError) return errorBody(error)
  if (error instanceof InputError) return shapeOf(error, error.statusCode)
  // What Fastify has to say of the body itself: too large, no JSON, another media type.
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

/** Sends JSON as text: a `preSerialization` hook of the host's, which may wrap what its own routes answer, is not asked. */
export function sendText (reply: Pick<FastifyReply, 'header' | 'send'>, json: string | Buffer): void {
  reply.header('content-type', 'application/json; charset=utf-8')
  reply.send(json)
}

/** For what does not come from the suite's handlers: errors of the host's, and what its hooks answer. */
function serialize (value: unknown): string {
  if (!(value instanceof Error)) return JSON.stringify(value)
  const { statusCode = 500, code, message } = value as FastifyError
  return JSON.stringify(shapeOf({ code, message }, statusCode))
}

