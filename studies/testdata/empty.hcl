# Nothing but a header.
study {
  name = "empty"
}
