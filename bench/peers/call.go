package main

// A request is what programs define themselves for calls where the library has none: an event with
// an id, which the answer carries too.
type request struct {
	Event string `json:"event"`
	Data  data   `json:"data"`
	ID    int    `json:"id"`
}

type response struct {
	ID   int  `json:"id"`
	Data data `json:"data"`
}

// data is what a call sends and what its handler returns.
type data struct {
	Text string `json:"text"`
}

func (r request) handle() response { return response{r.ID, r.Data} }
