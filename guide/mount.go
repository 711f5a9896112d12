package guide

import (
	"net/http"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v5"
	echomiddleware "github.com/labstack/echo/v5/middleware"
)

func onChi(h *atrium.Hub) http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.Logger, middleware.Recoverer) // both let Hijack through
	// [chi]
	r.Handle("/socket.io/*", h)
	r.Group(func(r chi.Router) {
		r.Use(middleware.Timeout(10*time.Second), middleware.Compress(5)) // for pages only
		r.Get("/", home)
	})
	// [end]
	return r
}

func onGin(h *atrium.Hub) http.Handler {
	r := gin.New()
	r.Use(gin.Logger(), gin.Recovery())
	// [gin]
	r.Any("/socket.io/", gin.WrapH(h))
	// [end]
	r.GET("/", gin.WrapF(home))
	return r
}

func onEcho(h *atrium.Hub) http.Handler {
	e := echo.New()
	e.Use(echomiddleware.RequestLogger(), echomiddleware.Recover())
	// [echo]
	e.Any("/socket.io/", echo.WrapHandler(h))
	// [end]
	e.GET("/", echo.WrapHandler(http.HandlerFunc(home)), echomiddleware.Gzip())
	return e
}

func home(w http.ResponseWriter, r *http.Request) { w.Write([]byte("home")) }
