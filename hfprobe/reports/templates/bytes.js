// Where the bytes of a sound are: in a block of this page, in a file beside it, or (from file://, where pages may not
// read files) in a script beside it that hands them over. Nothing is taken before it is asked for.
const arrivals = new Map();

window.hfprobeSound = (key, text) => {
  const arrived = arrivals.get(key);
  if (arrived) arrived(text);
};

function decodeBase64(text) {
  const raw = atob(text.trim());
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

// The blocks stand last in the page: until all of it is read, one that is not there may still come.
async function block(name) {
  for (;;) {
    const element = document.getElementById(`block-${name}`);
    // The last block that was read may be there in part.
    if (element && (document.readyState !== "loading" || element.nextElementSibling)) return element.textContent;
    if (!element && document.readyState !== "loading") throw new Error(`this page lacks ${name}`);
    await new Promise((resume) => { setTimeout(resume, 20); });
  }
}

function fromScript(key, address) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src: address });
    const done = () => {
      arrivals.delete(key);
      script.remove();
    };
    arrivals.set(key, (text) => {
      done();
      resolve(text);
    });
    script.onerror = () => {
      done();
      reject(new Error(`${address} is not there`));
    };
    document.head.append(script);
  });
}

class Bytes {
  constructor(room, inside) {
    this.room = room;
    this.inside = inside;
    this.coming = new Map();
  }

  address(key) {
    return `sounds/${key}${this.room.suffix}`;
  }

  // The sound file as an ArrayBuffer of its own: decoding takes it away.
  sound(key) {
    if (!this.coming.has(key)) {
      const coming = this.take(key).finally(() => this.coming.delete(key));
      this.coming.set(key, coming);
    }
    return this.coming.get(key).then((buffer) => buffer.slice(0));
  }

  async take(key) {
    if (this.inside) return decodeBase64(await block(key));
    if (location.protocol === "file:") return decodeBase64(await fromScript(key, `${this.address(key)}.js`));
    const answer = await fetch(this.address(key));
    if (!answer.ok) throw new Error(`${this.address(key)}: ${answer.status}`);
    return answer.arrayBuffer();
  }

  async showPicture(image, key) {
    image.src = this.inside ? `data:image/png;base64,${(await block(`${key}.png`)).trim()}` : `sounds/${key}.png`;
  }

  async save(key, name) {
    const href = URL.createObjectURL(new Blob([await this.sound(key)], { type: this.room.mime }));
    make("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }
}
