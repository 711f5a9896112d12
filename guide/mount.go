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

// routers returns a router of each kind that serves the hub, behind what people put before it.
func routers(h *atrium.Hub) map[string]http.Handler {
	chiRouter := chi.NewRouter()
	chiRouter.Use(middleware.Logger, middleware.Recoverer, middleware.Timeout(10*time.Second), middleware.Compress(5))
	ginEngine := gin.New()
	ginEngine.Use(gin.Logger(), gin.Recovery())
	echoServer := echo.New()
	echoServer.Use(echomiddleware.RequestLogger(), echomiddleware.Recover(), echomiddleware.ContextTimeout(10*time.Second), echomiddleware.Gzip())

	// [routers]
	chiRouter.Handle("/socket.io/*", h)
	ginEngine.Any("/socket.io/", gin.WrapH(h))
	echoServer.Any("/socket.io/", echo.WrapHandler(h))
	// [end]
	return map[string]http.Handler{"chi": chiRouter, "gin": ginEngine, "echo": echoServer}
}
