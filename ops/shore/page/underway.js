// What was written and is not read yet: it stands on the screen until a state shows it.

export class Underway {
  // `items`: what the screen shows already; none of them is what is being written.
  add(element, { body, author }, items) {
    const one = { element, body, author: author.id, id: "", shownAs: "", others: new Set(items.map(idOf)) };
    this.#all.add(one);
    return one;
  }

  answered(one, id) {
    one.id = id;
    if (one.shownAs === id) this.#all.delete(one);
    for (const each of this.#all) {
      if (each !== one) each.others.add(id);
      if (each === one || each.shownAs === id) each.shownAs = "";
    }
  }

  refused(one) {
    this.#all.delete(one);
  }

  // The elements of all that `items` do not show. A state may come before the answer that tells the id.
  elements(items) {
    for (const one of this.#all) {
      if (!one.id) one.shownAs ||= items.find((item) => this.#canBe(one, item))?.id ?? "";
      else if (items.some(({ id }) => id === one.id)) this.#all.delete(one);
    }
    return [...this.#all].filter((one) => !one.shownAs).map((one) => one.element);
  }

  #canBe(one, { id, body, author }) {
    const taken = one.others.has(id) || [...this.#all].some((each) => each.shownAs === id);
    return !taken && body === one.body && author?.id === one.author;
  }

  #all = new Set();
}

const idOf = ({ id }) => id;
