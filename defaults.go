package atrium

import (
	"fmt"
	"math"
	"time"
)

// endless is greater than every count, size and nanotime, and small enough to add to without overflow.
const endless = 1 << 60

// noBound is endless as an int, which may have 32 bits.
const noBound = min(endless, math.MaxInt)

// setDefault puts the default value into an option that is zero. It panics if the option is negative.
func setDefault[N time.Duration | int | int64](field *N, value N, name string) {
	if *field < 0 {
		panic(fmt.Sprintf("atrium: Options.%s is negative", name))
	}
	if most := int64(endless); int64(*field) > most {
		*field = N(most)
	}
	if *field == 0 {
		*field = value
	}
}
