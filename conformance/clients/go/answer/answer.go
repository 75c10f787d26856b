// Package answer is what the clients have in common.
package answer

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
)

// Lines makes one call for each line of the input and prints its result. Call gives the ARN, or none where it has no such thing.
func Lines(call func() (string, error)) {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		arn, err := call()
		if err != nil {
			out.Encode(struct {
				Ok    bool   `json:"ok"`
				Error string `json:"error"`
			}{false, line(err)})
			continue
		}
		out.Encode(struct {
			Ok  bool   `json:"ok"`
			Arn string `json:"arn,omitempty"`
		}{true, arn})
	}
}

// An error's text has its causes last: of a long one the middle is left out.
func line(err error) string {
	text := []rune(strings.Join(strings.Fields(err.Error()), " "))
	if len(text) <= 4000 {
		return string(text)
	}
	return string(text[:1998]) + " … " + string(text[len(text)-1998:])
}
