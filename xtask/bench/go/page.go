package main

import (
	"bytes"
	"html"
	"net/url"
	"os"
	"strconv"
)

const (
	top = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>`
	head = ` · User registry</title>
<link rel="stylesheet" href="/static/app.css">
<link rel="icon" href="/favicon.svg" type="image/svg+xml">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<div class="wrap">
<a class="brand" href="/users"><svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true"><rect width="32" height="32" rx="9" class="b0"/><circle cx="16" cy="12.2" r="4.7" class="b1"/><path d="M6.6 26c.9-5.2 4.7-8 9.4-8s8.5 2.8 9.4 8z" class="b1"/></svg><span>User registry</span></a>
<nav aria-label="Main">
<a href="/users" aria-current="page">Users</a>
<a href="/users/new">Register</a>
<a href="/info">Info</a>
</nav>
</div>
</header>
<main id="main" class="wrap" tabindex="-1">
<div class="head"><h1>Users</h1><a class="button" href="/users/new">Register a user</a></div>
<form class="search" method="get" action="/users" role="search">
<label for="q">Search by name or e-mail</label>
<div class="row"><input id="q" name="q" type="search" value="`
	search = `" dir="auto" maxlength="200" autocomplete="off"><button class="button quiet" type="submit">Search</button></div>
</form>
`
	table = `<table class="users">
<caption class="hidden">Users, newest first</caption>
<thead><tr><th scope="col">Name</th><th scope="col">E-mail</th><th scope="col">Gender</th><th scope="col">Registered (UTC)</th></tr></thead>
<tbody>
`
)

var pod = os.Getenv("POD_NAME")

// listPage writes the list as the other app's template has it.
func listPage(p part, found page) []byte {
	var b bytes.Buffer
	b.Grow(4096 + 256*len(found.users))
	b.WriteString(top)
	if p.search == "" {
		b.WriteString("Users")
	} else {
		b.WriteString("Users matching “" + html.EscapeString(p.search) + "”")
	}
	b.WriteString(head)
	b.WriteString(html.EscapeString(p.search))
	b.WriteString(search)
	if len(found.users) == 0 {
		b.WriteString(`<div class="empty"><p>Nobody is here.</p></div>`)
	} else {
		b.WriteString(table)
		for i := range found.users {
			row(&b, &found.users[i])
		}
		b.WriteString("</tbody>\n</table>\n")
		paging(&b, p, found)
	}
	b.WriteString("\n</main>\n<footer class=\"wrap\"><span>Version 0.1.0</span> <span>Served by ")
	b.WriteString(html.EscapeString(pod))
	b.WriteString("</span></footer>\n</body>\n</html>\n")
	return b.Bytes()
}

func row(b *bytes.Buffer, u *user) {
	var scratch [32]byte
	b.WriteString(`<tr><th scope="row"><bdi><a href="/users/`)
	b.Write(strconv.AppendInt(scratch[:0], u.ID, 10))
	b.WriteString(`">`)
	b.WriteString(html.EscapeString(u.Name))
	b.WriteString(`</a></bdi></th><td class="mail"><bdi>`)
	b.WriteString(html.EscapeString(u.Email))
	b.WriteString(`</bdi></td><td class="gender">`)
	b.WriteString(genders[u.Gender])
	b.WriteString(`</td><td class="when">`)
	b.Write(u.CreatedAt.UTC().AppendFormat(scratch[:0], "2006-01-02 15:04"))
	b.WriteString("</td></tr>\n")
}

func paging(b *bytes.Buffer, p part, found page) {
	if !found.newer && !found.older {
		return
	}
	query := "?"
	if p.search != "" {
		query += "q=" + url.QueryEscape(p.search) + "&amp;"
	}
	if p.limit != 25 {
		query += "limit=" + strconv.Itoa(p.limit) + "&amp;"
	}
	link := func(shown bool, rel, place string, id int64, text string) {
		if !shown {
			b.WriteString("<span></span>\n")
			return
		}
		b.WriteString(`<a class="button quiet" rel="` + rel + `" href="/users` + query + place + "=" + strconv.FormatInt(id, 10) + `">` + text + "</a>\n")
	}
	b.WriteString("<nav class=\"paging\" aria-label=\"Pages\">\n")
	link(found.newer, "prev", "after", found.users[0].ID, "← Newer")
	link(found.older, "next", "before", found.users[len(found.users)-1].ID, "Older →")
	b.WriteString("</nav>\n")
}
