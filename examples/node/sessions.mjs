// A web app that keeps its sessions in Annulet: log in, be greeted, log out.
//
//     annulet dev &
//     node examples/node/sessions.mjs 8080
//     curl -c jar -d name=Ada http://127.0.0.1:8080/login
//     curl -b jar http://127.0.0.1:8080/
//
// A session lives for half an hour after its last request, on whichever server of the app that
// comes to: all of them share the cluster, and any of them may be restarted.

import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { AnnuletError, connect } from 'annulet'

const HALF_AN_HOUR_MS = 1_800_000
const LONGEST_FORM = 10_000

/** Sessions by their ids: what is known of a visitor, as JSON. */
class Sessions {
  #bucket

  constructor(bucket) {
    this.#bucket = bucket
  }

  async begin(known) {
    const session = randomBytes(18).toString('base64url')
    const value = Buffer.from(JSON.stringify(known))
    await this.#bucket.put(`session/${session}`, value, { ttlMs: HALF_AN_HOUR_MS })
    return session
  }

  /** What is known, and the session goes on; `null` if there is none, or it is over. */
  async find(session) {
    if (session === '' || session.length > 64) return null
    const touched = await this.#bucket.touch(`session/${session}`, { ttlMs: HALF_AN_HOUR_MS })
    if (touched === null) return null
    const entry = await this.#bucket.get(`session/${session}`)
    return entry === null ? null : JSON.parse(entry.value.toString())
  }

  async end(session) {
    if (session !== '') await this.#bucket.delete(`session/${session}`)
  }
}

function cookie(request) {
  const found = /(?:^|;\s*)session=([^;]*)/.exec(request.headers.cookie ?? '')
  return found === null ? '' : found[1]
}

async function form(request) {
  let text = ''
  // A character may come in two parts.
  request.setEncoding('utf8')
  for await (const part of request) {
    text += part
    if (text.length > LONGEST_FORM) return null
  }
  return new URLSearchParams(text)
}

/** Status, text, and a cookie where it changes. */
async function answer(sessions, request) {
  if (request.method === 'GET') {
    const known = await sessions.find(cookie(request))
    return known === null ? [401, 'who are you?'] : [200, `hello ${known.name}`]
  }
  const given = await form(request)
  if (given === null) return [413, 'that is too long']
  if (request.url === '/login' && given.has('name')) {
    const session = await sessions.begin({ name: given.get('name') })
    return [200, 'welcome', `session=${session}; HttpOnly; SameSite=Lax; Max-Age=1800`]
  }
  if (request.url === '/logout') {
    await sessions.end(cookie(request))
    return [200, 'goodbye', 'session=; Max-Age=0']
  }
  return [404, 'there is no such page']
}

// The profile is found by itself: ANNULET_PROFILE, or `.annulet/profile.toml`.
const client = await connect()
const sessions = new Sessions(client.bucket(process.argv[3] ?? 'default'))
const server = createServer(async (request, response) => {
  let [status, text, changed] = [500, 'something is wrong here']
  try {
    ;[status, text, changed] = await answer(sessions, request)
  } catch (error) {
    // What may be over in a moment is worth another try of the browser's.
    if (error instanceof AnnuletError) [status, text] = [error.retryable ? 503 : 500, error.code]
    else console.error(error)
  }
  if (changed !== undefined) response.setHeader('Set-Cookie', changed)
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(text)
})
server.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`)
})
// Ended alike by who types Ctrl-C and by who stops a service.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    server.close()
    server.closeAllConnections()
    await client.close()
    console.log('goodbye')
    process.exit()
  })
}
