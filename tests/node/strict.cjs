// Holds playlists to RFC 8216 with hls-parser in strict mode.
// In: a JSON object, name to text. Out: a JSON object, name to complaint, of those that it refuses.
const HLS = require("hls-parser");

HLS.setOptions({ strictMode: true });

const complaints = {};
for (const [name, text] of Object.entries(JSON.parse(require("node:fs").readFileSync(0, "utf8")))) {
  try {
    HLS.parse(text);
  } catch (error) {
    complaints[name] = String(error.message);
  }
}
process.stdout.write(JSON.stringify(complaints));
