"use strict";
(function () {
  var root = document.documentElement, body = document.body;
  body.classList.add("on");
  var data = JSON.parse(document.getElementById("data").textContent);
  function all(sel, from) { return Array.prototype.slice.call((from || document).querySelectorAll(sel)); }

  // Tooltips: the same words as the titles that work without this script.
  var tip = document.getElementById("tip");
  function words(el) {
    var t = el.querySelector && Array.prototype.find.call(el.children, function (c) { return c.tagName === "title"; });
    if (t) { el.setAttribute("aria-label", t.textContent); el.dataset.tip = t.textContent; t.remove(); }
    return el.dataset ? el.dataset.tip : "";
  }
  function place(x, y) {
    tip.hidden = false;
    var r = tip.getBoundingClientRect(), w = root.clientWidth;
    tip.style.transform = "translate(" + Math.max(6, Math.min(x + 14, w - r.width - 6)) + "px," + Math.max(6, y - r.height - 12) + "px)";
  }
  function show(text, x, y) { if (!text) { tip.hidden = true; return; } tip.textContent = text; place(x, y); }
  document.addEventListener("pointermove", function (e) {
    var m = e.target.closest ? e.target.closest("[data-m]") : null;
    if (m) { show(matrixWords(m, e), e.clientX, e.clientY); return; }
    var el = e.target.closest ? e.target.closest(".p, .cell, [data-tip]") : null;
    show(el ? words(el) : "", e.clientX, e.clientY);
  });
  document.addEventListener("focusin", function (e) {
    if (e.target.classList && e.target.classList.contains("cell")) {
      var r = e.target.getBoundingClientRect();
      show(words(e.target), r.left, r.top);
    }
  });
  document.addEventListener("focusout", function () { tip.hidden = true; });
  document.addEventListener("keydown", function (e) { if (e.key === "Escape") tip.hidden = true; });

  function matrixWords(g, e) {
    var svg = g.ownerSVGElement, p = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
    var cs = +g.dataset.cs, i = Math.floor((p.y - g.dataset.y) / cs), j = Math.floor((p.x - g.dataset.x) / cs), n = +g.dataset.n;
    if (i < 0 || j < 0 || i >= n || j >= n || i === j) return "";
    var cut = g.dataset.m.lastIndexOf("/"), d = data.details[g.dataset.m.slice(0, cut)], kind = g.dataset.m.slice(cut + 1);
    var v = d[kind][i][j], what = kind === "sem" ? "judged similarity " : "cos ";
    return d.names[i] + " / " + d.names[j] + ": " + what + (v === null ? "not known" : v.toFixed(2));
  }

  // Heatmaps: another metric.
  function mix(t) {
    var stops = data.viridis, x = Math.max(0, Math.min(1, t)) * (stops.length - 1), i = Math.min(Math.floor(x), stops.length - 2), f = x - i;
    var a = parseInt(stops[i].slice(1), 16), b = parseInt(stops[i + 1].slice(1), 16);
    return [16, 8, 0].map(function (s) { var u = a >> s & 255, v = b >> s & 255; return Math.round(u + f * (v - u)); });
  }
  function inkOn(c) {
    var l = c.map(function (v) { v /= 255; return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2] > 0.19 ? "#000" : "#fff";
  }
  var heatMetric = document.getElementById("heat-metric");
  function recolour() {
    var mi = +heatMetric.value, metric = data.metrics[mi];
    document.getElementById("heat-doc").textContent = metric.doc;
    all(".heats").forEach(function (box) {
      var b = data.boards[+box.dataset.board], lo = Infinity, hi = -Infinity, ext = {};
      b.values.forEach(function (row, i) {
        var v = row[mi]; if (v === null) return;
        lo = Math.min(lo, v); hi = Math.max(hi, v);
        var scope = metric.key === "normalized_score" ? b.method[i] : "";
        var x = ext[scope] || (ext[scope] = { hi: -1e9, lo: 1e9 });
        if (v > x.hi) { x.hi = v; x.best = i; }
        if (v < x.lo) { x.lo = v; x.worst = i; }
      });
      var best = {}, worst = {};
      Object.keys(ext).forEach(function (k) { if (ext[k].best !== ext[k].worst) { best[ext[k].best] = 1; worst[ext[k].worst] = 1; } });
      all(".cell", box).forEach(function (cell) {
        var i = +cell.dataset.i, v = b.values[i][mi], rect = cell.querySelector("rect"), text = cell.querySelector("text");
        words(cell);
        cell.classList.toggle("best", !!best[i]);
        cell.classList.toggle("worst", !!worst[i]);
        text.textContent = v === null ? "–" : (v < -0.005 ? "−" : "") + Math.abs(v).toFixed(2).replace(/^0\./, ".");
        if (!b.empty[i]) {
          var c = v === null ? null : mix(hi > lo ? (v - lo) / (hi - lo) : 0.5);
          rect.style.fill = c ? "rgb(" + c.join(",") + ")" : "var(--hole)";
          text.style.fill = c ? inkOn(c) : "var(--ink)";
        }
        cell.dataset.tip = b.names[i] + ". " + metric.label + ": " + (v === null ? "not measured" : v.toFixed(3)) + (b.empty[i] ? ". Empty clusters: " + b.empty[i] : "");
        cell.setAttribute("aria-label", cell.dataset.tip);
      });
      var sl = document.querySelector('[data-lo="' + box.dataset.board + '"]'), sh = document.querySelector('[data-hi="' + box.dataset.board + '"]');
      if (sl && lo <= hi) { sl.textContent = lo.toFixed(3); sh.textContent = hi.toFixed(3); }
    });
  }
  heatMetric.addEventListener("change", recolour);
  document.getElementById("heat-doc").textContent = data.metrics[0].doc;
  document.addEventListener("click", function (e) {
    var cell = e.target.closest ? e.target.closest(".cell[data-to]") : null;
    if (cell) location.hash = cell.dataset.to;
  });
  document.addEventListener("keydown", function (e) {
    var cell = document.activeElement;
    if (!cell || !cell.classList.contains("cell")) return;
    if (e.key === "Enter" && cell.dataset.to) { location.hash = cell.dataset.to; return; }
    var dir = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (!dir) return;
    e.preventDefault();
    var r = cell.querySelector("rect"), x = +r.getAttribute("x"), y = +r.getAttribute("y"), best = null, far = Infinity;
    all(".cell", cell.ownerSVGElement).forEach(function (o) {
      var q = o.querySelector("rect"), dx = q.getAttribute("x") - x, dy = q.getAttribute("y") - y;
      var along = dx * dir[0] + dy * dir[1], across = Math.abs(dx * dir[1]) + Math.abs(dy * dir[0]);
      if (along > 0.5 && across < 0.5 && along < far) { far = along; best = o; }
    });
    if (best) { cell.tabIndex = -1; best.tabIndex = 0; best.focus(); }
  });

  // Charts: which layer or method, which lines.
  all(".facets").forEach(function (box) {
    var select = box.querySelector("select.facet"), groups = all(".group", box);
    if (!select) return;
    var reps = box.querySelector(".showreps");
    if (reps) reps.addEventListener("change", function () { box.classList.toggle("reps-on", reps.checked); });
    if (groups.length < 2) select.closest("label").remove();
    select.addEventListener("change", function () { groups.forEach(function (g, i) { g.open = i === +select.value; }); });
  });
  all(".toggle").forEach(function (b) {
    var group = b.closest(".group");
    b.addEventListener("click", function () {
      var on = b.getAttribute("aria-pressed") !== "true";
      b.setAttribute("aria-pressed", on);
      all("g.s." + b.dataset.s, group).forEach(function (g) { g.classList.toggle("off", !on); });
    });
    function hot(on) {
      group.classList.toggle("dim", on);
      all("g.s." + b.dataset.s, group).forEach(function (g) { g.classList.toggle("hot", on); });
    }
    b.addEventListener("pointerenter", function () { hot(true); });
    b.addEventListener("pointerleave", function () { hot(false); });
    b.addEventListener("focus", function () { hot(true); });
    b.addEventListener("blur", function () { hot(false); });
  });

  // Tables: sort by a column.
  all("table.sortable").forEach(function (table) {
    all("thead th", table).forEach(function (th, col) {
      var button = document.createElement("button");
      button.type = "button";
      while (th.firstChild) button.appendChild(th.firstChild);
      th.appendChild(button);
      button.addEventListener("click", function () {
        var up = th.getAttribute("aria-sort") === "descending", first = !th.hasAttribute("aria-sort");
        all("th", table.tHead).forEach(function (o) { o.removeAttribute("aria-sort"); });
        var tbody = table.tBodies[0], rows = all(":scope > tr", tbody);
        function value(r) { var td = r.children[col]; return (td.dataset.v || td.textContent).trim(); }
        function num(s) { return /^[-−+]?[\d.,]+/.test(s) ? parseFloat(s.replace(/,/g, "").replace("−", "-")) : NaN; }
        if (first) up = rows.some(function (r) { var s = value(r); return s && s !== "–" && isNaN(num(s)); });
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        rows.map(function (r, i) { var s = value(r); return { r: r, i: i, s: s, n: num(s) }; }).sort(function (a, b) {
          var c;
          if (!isNaN(a.n) && !isNaN(b.n)) c = a.n - b.n;
          else if (isNaN(a.n) !== isNaN(b.n)) return isNaN(a.n) ? 1 : -1;
          else c = a.s.localeCompare(b.s);
          return (up ? c : -c) || a.i - b.i;
        }).forEach(function (x) { tbody.appendChild(x.r); });
      });
    });
  });

  // Categories: which clustering, which repetition.
  var pick = document.getElementById("detail"), details = all("details.detail");
  function open(id) {
    details.forEach(function (d) { d.open = d.id === id; });
    pick.value = id;
    search();
  }
  pick.addEventListener("change", function () { open(pick.value); });
  details.forEach(function (d) {
    d.querySelector("summary").addEventListener("click", function (e) { e.preventDefault(); });
    d.querySelector("summary").tabIndex = -1;
  });
  function follow() {
    var id = decodeURIComponent(location.hash.slice(1)), d = id && document.getElementById(id);
    if (d && d.classList.contains("detail")) { open(id); d.scrollIntoView(); }
  }
  window.addEventListener("hashchange", follow);
  all("select.rep").forEach(function (select) {
    var box = select.closest(".detail"), d = data.details[box.id], body = box.querySelector(".cats tbody"), at = {};
    d.ids.forEach(function (id, i) { at[id] = i; });
    select.addEventListener("change", function () {
      var rows = d.reps[select.selectedIndex];
      all(":scope > tr", body).forEach(function (tr) {
        var r = rows[at[tr.children[0].dataset.v]];
        tr.querySelector(".ttl").textContent = r[0] || "(no title)";
        tr.querySelector(".dsc").textContent = r[1];
        for (var i = 0; i < 4; i++) tr.children[3 + i].textContent = r[2 + i];
      });
    });
  });

  // Sentences: find a phrase in the open clustering.
  var find = document.getElementById("find"), found = document.getElementById("found");
  function search() {
    var d = document.querySelector("details.detail[open]"), q = find.value.trim().toLowerCase();
    if (!d) return;
    var hits = 0;
    all(".sents li, tr.case, .sent", d).forEach(function (el) {
      var s = el.querySelector("q") || el, hit = !q || s.textContent.toLowerCase().indexOf(q) >= 0;
      if (q && hit) hits++;
      if (el.classList.contains("sent")) el.style.opacity = hit ? "" : "0.25"; else el.hidden = !hit;
    });
    all(".ex, .cases", d).forEach(function (x) {
      if (q) x.open = !!x.querySelector(".sents li:not([hidden]), tr.case:not([hidden])");
      else if (search.was) x.open = false;
    });
    found.textContent = q ? hits + (hits === 1 ? " sentence" : " sentences") : "";
    search.was = !!q;
  }
  find.addEventListener("input", search);

  // Traces: hold one cluster's sentences against the others.
  all(".trace").forEach(function (box) {
    box.addEventListener("pointerover", function (e) {
      var s = e.target.closest(".sent");
      box.classList.toggle("dim", !!s);
      all(".sent", box).forEach(function (o) { o.classList.toggle("hot", !!s && o.dataset.c === s.dataset.c); });
    });
    box.addEventListener("pointerleave", function () { box.classList.remove("dim"); });
  });
  follow();
})();
