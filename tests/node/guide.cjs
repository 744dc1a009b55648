// The classes that StreamSource's guide for integrators gives to its readers, and what a reader would do with them. They
// are here verbatim, because clients are written by copying them and must run against this server as they are; the only
// two spots where they cannot are marked.
//
// `guide.cjs ADDRESS` with {"email", "password"} on standard input. Prints what each step gave, as JSON.

const { readFileSync } = require('node:fs');

// Backend interface
class StreamBackend {
  async createStream(data) { throw new Error('Not implemented'); }
  async updateStream(id, data) { throw new Error('Not implemented'); }
  async getStreams(filters) { throw new Error('Not implemented'); }
  async deleteStream(id) { throw new Error('Not implemented'); }
}

// StreamSource implementation
class StreamSourceBackend extends StreamBackend {
  constructor(apiUrl, token) {
    super();
    this.apiUrl = apiUrl;
    this.token = token;
  }

  async request(endpoint, options = {}) {
    const response = await fetch(`${this.apiUrl}${endpoint}`, {
      ...options,
      headers: {
        'Authorization': `Bearer ${this.token}`,
        'Content-Type': 'application/json',
        ...options.headers
      }
    });

    if (!response.ok) {
      const error = await response.json();
      // First spot: the status goes along, because the words for 429 do not hold the number.
      throw Object.assign(new Error(error.error || `HTTP ${response.status}`), { status: response.status });
    }

    // Second spot: what is deleted has no body.
    return response.status === 204 ? null : response.json();
  }

  async createStream(data) {
    return this.request('/api/v1/streams', {
      method: 'POST',
      body: JSON.stringify({
        source: data.source,
        link: data.link,
        status: data.status || 'offline',
        platform: data.platform,
        title: data.title,
        notes: data.notes
      })
    });
  }

  async getStreams(filters = {}) {
    const params = new URLSearchParams(filters);
    return this.request(`/api/v1/streams?${params}`);
  }
}

// Backend manager
class BackendManager {
  constructor(config) {
    this.backends = {
      streamSource: new StreamSourceBackend(config.streamSource.url, config.streamSource.token),
    };
    this.primaryBackend = config.primaryBackend || 'streamSource';
  }

  async createStream(data) {
    // Write to primary backend
    const result = await this.backends[this.primaryBackend].createStream(data);

    // Optionally sync to other backends
    if (this.config.syncBackends) {
      await this.syncToSecondaryBackends('create', data);
    }

    return result;
  }
}

class StreamManager {
  constructor(backendManager, mapper) {
    this.backend = backendManager;
    this.mapper = mapper;
  }

  async createStream(data) {
    // Validate required fields
    if (!data.source || !data.link) {
      throw new Error('Source and link are required');
    }

    // Create in StreamSource
    const stream = await this.backend.createStream(data);

    // Log for debugging
    console.log('Created stream:', stream);

    return stream;
  }

  async listStreams(filters = {}) {
    // Supported filters: status, notStatus, is_pinned, page, per_page
    const response = await this.backend.getStreams(filters);

    return {
      streams: response.streams,
      pagination: response.meta
    };
  }

  async updateStream(id, updates) {
    return await this.backend.updateStream(id, updates);
  }

  async pinStream(id) {
    return await this.backend.request(`/api/v1/streams/${id}/pin`, {
      method: 'PUT'
    });
  }
}

class RateLimitedBackend extends StreamSourceBackend {
  constructor(apiUrl, token) {
    super(apiUrl, token);
    this.requestQueue = [];
    this.rateLimitDelay = 100; // ms between requests
  }

  async request(endpoint, options) {
    try {
      return await super.request(endpoint, options);
    } catch (error) {
      if (error.status === 429) { // with the first spot
        // Rate limited - retry with exponential backoff
        await this.delay(this.rateLimitDelay);
        this.rateLimitDelay *= 2;
        return this.request(endpoint, options);
      }
      throw error;
    }
  }

  delay(ms) {
    return new Promise(resolve => setTimeout(resolve, ms));
  }
}

// What a reader does with them

const url = process.argv[2];
const given = JSON.parse(readFileSync(0));

async function signIn() {
  const response = await fetch(`${url}/api/v1/users/login`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(given)
  });
  return response.json();
}

async function refusal(step) {
  try {
    await step();
  } catch (error) {
    return error.message;
  }
}

// A client that waits, at an address whose minute is used up; after two waits the address is another.
class Waiting extends RateLimitedBackend {
  waits = [];
  headers = { 'X-Forwarded-For': '198.51.100.1' };

  delay(ms) {
    this.waits.push(ms);
    if (this.waits.length === 2) this.headers['X-Forwarded-For'] = '198.51.100.2';
    return Promise.resolve();
  }
}

// A minute of the server's clock is used up when it refuses. One that is then nearly over is left to pass and the next
// one used up, so that it is still that minute when the client comes.
async function usedUp(headers) {
  for (;;) {
    const answers = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const answer = await fetch(`${url}/api/v1/nothing`, { headers });
        await answer.text();
        return answer.status;
      })
    );
    if (!answers.includes(429)) continue;
    const left = 60_000 - (Date.now() % 60_000);
    if (left > 10_000) return;
    await new Promise((resolve) => setTimeout(resolve, left));
  }
}

async function main() {
  const { user, token } = await signIn();
  const backend = new StreamSourceBackend(url, token);
  const manager = new BackendManager({ streamSource: { url, token }, primaryBackend: 'streamSource' });
  manager.config = { syncBackends: false }; // the guide's constructor forgets it
  console.log = () => {}; // the manager's debugging; what is printed here is the result

  const streams = new StreamManager(backend);
  const made = await streams.createStream({
    source: 'StreamerName',
    link: 'https://www.tiktok.com/@streamer/live',
    title: 'Stream Title',
    notes: 'Additional notes'
  });
  const second = await manager.createStream({ source: 'Other', link: 'https://twitch.tv/other', status: 'live' });
  const pinned = await streams.pinStream(made.id);
  const listed = await streams.listStreams({ status: 'offline', is_pinned: true, page: 1, per_page: 10 });
  const others = await streams.listStreams({ notStatus: 'offline', sort: '-created' });
  const invalid = await refusal(() => backend.createStream({ source: 'No link' }));
  const unauthorized = await refusal(() => new StreamSourceBackend(url, 'nonsense').getStreams());
  const waiting = new Waiting(url, token);
  await usedUp({ ...waiting.headers });
  const afterWaiting = await waiting.request(`/api/v1/streams/${made.id}`, { headers: waiting.headers });
  const deleted = await backend.request(`/api/v1/streams/${made.id}`, { method: 'DELETE' });
  const gone = await refusal(() => backend.request(`/api/v1/streams/${made.id}`));
  process.stdout.write(JSON.stringify({
    user, made, second, pinned, listed, others, invalid, unauthorized,
    waits: waiting.waits, afterWaiting, deleted, gone
  }));
}

main();
