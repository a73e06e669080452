for (const table of document.querySelectorAll("table.sortable")) {
  const heads = table.tHead.rows[0].cells, body = table.tBodies[0];
  const number = (text) => {
    const plain = text.replace("\u2212", "-").replace("\u2013", "");
    return plain.trim() === "" || isNaN(plain) ? null : Number(plain);
  };
  [...heads].forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row, place) => ({ row, place, text: row.cells[column].textContent.trim() }));
      rows.sort((a, b) => {
        const x = number(a.text), y = number(b.text);
        const order = x !== null && y !== null ? x - y : x !== null ? -1 : y !== null ? 1 : a.text.localeCompare(b.text);
        return (down ? -order : order) || a.place - b.place;
      });
      body.append(...rows.map((r) => r.row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
}
for (const mosaic of document.querySelectorAll(".mosaic")) {
  const cases = [...mosaic.querySelectorAll("li")], count = mosaic.querySelector("output");
  const rating = (item) => item.querySelector("input:checked")?.value ?? "";
  const tell = () => {
    const rated = cases.filter(rating);
    count.textContent = `${rated.length} of ${cases.length} rated, ${rated.filter((c) => rating(c) === "bad").length} bad`;
  };
  mosaic.addEventListener("change", (event) => {
    const item = event.target.closest("li");
    item.classList.toggle("bad", rating(item) === "bad");
    tell();
  });
  mosaic.querySelector(".save").addEventListener("click", () => {
    const plain = (text) => text.replace(/[\t\r\n]/g, " ").replace(/^'*[=+\-@]/, "'$&");
    const rows = cases.map((c) => `${plain(c.dataset.case)}\t${rating(c)}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["case_id\trating", ...rows].join("\n") + "\n"], { type: "text/tab-separated-values" }));
    link.download = "ratings.tsv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  tell();
}
