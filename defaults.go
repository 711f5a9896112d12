package atrium

import (
	"fmt"
	"math"
	"time"
)

// endless is greater than every count, size and nanotime, and small enough to add to without
// overflow.
const endless = 1 << 60

// noBound is endless as an int, which may have 32 bits.
const noBound = min(endless, math.MaxInt)

// must panics with the error, if there is one, behind the name of the struct whose option it is
// about.
func must(options string, err error) {
	if err != nil {
		panic("atrium: " + options + err.Error())
	}
}

// negative returns an error that names the option if it is negative.
func negative[N time.Duration | int | int64](option N, name string) error {
	if option < 0 {
		return fmt.Errorf("%s is negative", name)
	}
	return nil
}

// setDefault puts the default value into an option that is zero, and endless into one that is more.
// Its error is that of negative.
func setDefault[N time.Duration | int | int64](option *N, value N, name string) error {
	if most := int64(endless); int64(*option) > most {
		*option = N(most)
	}
	if *option == 0 {
		*option = value
	}
	return negative(*option, name)
}
